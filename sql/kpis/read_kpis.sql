-- KPIs of a dataset: the mirror's figures, and the same with the caller's modifications, for the total and every group.
--
-- $1 organization, $2 dataset, $3 user, $4 limit (bigint: how many records at most), then what the markers need
-- (app/engine/figures.py composes them).
-- Returns the total first (grouped 0), then the groups by their keys: revision, workspace_revision, view_revision (NULL
-- where the view is not there or older than history; then the figures are not to be used), grouped, the keys g1 and on,
-- base_row_count and mine_row_count, mine_drafts, base_ and mine_ of each aggregate (here base_sum_plan_cost,
-- mine_sum_plan_cost), and doubtful: whether a least or greatest value may have been taken away, so that only rows can
-- tell it. No record: no such dataset.
--
-- Every source of figures yields cells that are in the baseline, in mine, or both, added or taken away (weight): the
-- view's cells, what history tells beyond the view's revision, and the caller's modifications before and after. All of
-- one snapshot.
-- Plan: a range of kpi_cell, a range of history's primary key, the caller's modifications once for each side. Rows of
-- the mirror are read instead of view and history where a filter is no dimension.
WITH standing AS (
    SELECT d.revision,
           coalesce((SELECT w.revision
                       FROM public.workspace AS w
                      WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3), 0) AS workspace_revision,
           (SELECT k.revision
              FROM pfa.kpi AS k
             WHERE k.organization_id = $1 AND k.grain = -1 AND k.revision >= d.unrecorded) AS view_revision
      FROM pfa.dataset AS d
     WHERE d.organization_id = $1
       AND d.name = $2
),
cell AS (
    /*{cells}*/
    SELECT TRUE AS baseline, TRUE AS mine, 1 AS weight, k.row_count, 0::bigint AS drafts, k.sum_plan_cost
      FROM pfa.kpi AS k
     WHERE k.organization_id = $1 AND k.grain = 0
    UNION ALL
    SELECT TRUE, TRUE, -1, count(*), 0, sum(h.b_plan_cost)
      FROM pfa.history AS h
     WHERE h.organization_id = $1 AND h.revision > (SELECT s.view_revision FROM standing AS s) AND h.op <> 'insert'
    UNION ALL
    SELECT TRUE, TRUE, 1, count(*), 0, sum(h.a_plan_cost)
      FROM pfa.history AS h
     WHERE h.organization_id = $1 AND h.revision > (SELECT s.view_revision FROM standing AS s) AND h.op <> 'delete'
    UNION ALL
    SELECT FALSE, TRUE, -1, count(*), 0, sum(x.b_plan_cost)
      FROM pfa.modification AS x
     WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
    UNION ALL
    SELECT FALSE, TRUE, 1, count(*), count(*) FILTER (WHERE x.draft_op IS NOT NULL), sum(x.a_plan_cost)
      FROM pfa.modification AS x
     WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
    /*{}*/
),
figure AS (
    SELECT /*{keys}*/0 AS grouped/*{}*/,
           coalesce(sum(c.weight * c.row_count) FILTER (WHERE c.baseline), 0)::bigint AS base_row_count,
           coalesce(sum(c.weight * c.row_count) FILTER (WHERE c.mine), 0)::bigint AS mine_row_count,
           coalesce(sum(c.drafts), 0)::bigint AS mine_drafts/*{figures}*/,
           coalesce(sum(c.weight * c.sum_plan_cost) FILTER (WHERE c.baseline), 0) AS base_sum_plan_cost,
           coalesce(sum(c.weight * c.sum_plan_cost) FILTER (WHERE c.mine), 0) AS mine_sum_plan_cost/*{}*/
      FROM cell AS c
     GROUP BY /*{sets}*/()/*{}*/
)
SELECT s.revision, s.workspace_revision, s.view_revision/*{columns}*/,
       f.grouped, f.base_row_count, f.mine_row_count, f.mine_drafts, f.base_sum_plan_cost, f.mine_sum_plan_cost/*{}*/,
       /*{doubtful}*/FALSE/*{}*/ AS doubtful
  FROM standing AS s
 CROSS JOIN figure AS f
 WHERE f.grouped = 0 OR f.base_row_count <> 0 OR f.mine_row_count <> 0
 ORDER BY /*{order}*/f.grouped/*{}*/
 LIMIT $4::bigint;
