"""Every route's edge: authentication, problems, bodies, idempotency, ETags, paging, OpenAPI, middleware, runtime."""
