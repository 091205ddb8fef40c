FROM python:3.12-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/srv/vanguard
WORKDIR /srv/vanguard

COPY requirements/runtime.txt requirements/
# The pins are complete: nothing is resolved, and `pip check` says whether that is so.
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/runtime.txt && pip check

# Run from the source: installing it would need a build tool that the service does not.
RUN printf '#!/usr/bin/env python\nfrom app.cli import main\n\nmain()\n' > /usr/local/bin/vanguard \
    && chmod 755 /usr/local/bin/vanguard \
    && useradd --system --no-create-home vanguard

COPY pyproject.toml alembic.ini ./
COPY migrations migrations
COPY sql sql
COPY app app

USER vanguard
ENV VANGUARD_HOST=0.0.0.0 VANGUARD_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"VANGUARD_PORT\"]}/health', timeout=2)"]
CMD ["vanguard", "serve"]
