# What stands in for heartexlabs/label-studio: the same release from PyPI, started as its image does.
FROM localhost/dgan-check/python
COPY constraints-label-studio.txt /
RUN pip install --no-cache-dir --disable-pip-version-check -c /constraints-label-studio.txt label-studio \
    && mkdir -p /label-studio/data && chown 1001 /label-studio /label-studio/data
ENV HOME=/label-studio LABEL_STUDIO_BASE_DATA_DIR=/label-studio/data
USER 1001
WORKDIR /label-studio
CMD ["label-studio", "start", "--no-browser", "--internal-host", "0.0.0.0", "--port", "8080"]
