#!/bin/sh
# Run by the image of PostgreSQL while a new volume is initialized, as its superuser, inside of the container; for an
# older volume: docker compose exec database sh /docker-entrypoint-initdb.d/10-roles.sh
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc --quiet \
    --set owner_password="${VANGUARD_OWNER_PASSWORD:?}" --set service_password="${VANGUARD_SERVICE_PASSWORD:?}" \
    --file "${VANGUARD_ROLES:-/etc/vanguard/roles.sql}"
# From now on the superuser comes in from inside of the container alone: without a password nobody does over the network.
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc --quiet \
    --command "ALTER ROLE CURRENT_USER PASSWORD NULL"
