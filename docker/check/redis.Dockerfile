# What stands in for redis:7.4-alpine: Debian's Redis, with the user that image has.
FROM localhost/dgan-check/debian
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && groupmod --gid 1000 redis && usermod --uid 999 --gid 1000 redis \
    && mkdir /data && chown 999:1000 /data
VOLUME /data
