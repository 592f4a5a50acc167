# What stands in for python:3.11-slim-bookworm: Debian's own Python, where that image has its own.
FROM localhost/dgan-check/debian
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates python3.11-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3.11 -m venv --copies /usr/local
