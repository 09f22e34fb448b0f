# One image for carpd, the agent and the controller; what runs is the command: carp, carp-agent, carp-controller,
# carp-uninstall, kubectl-carp. It needs no shell, writes nothing of its own, and runs with a read-only root.
#
#   docker build -t carp-operator:0.1.0 .          (or podman build, or buildah bud)
FROM python:3.13-slim AS build

WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY tools/image.d/locked.py uv.lock ./
# Everything that is installed is named by the lock, version and hash; pip refuses what differs.
RUN python locked.py uv.lock 'carp-operator[operator]' >runtime.txt \
    && python locked.py uv.lock hatchling >build.txt \
    && python -m venv --without-pip /opt/build \
    && python -m venv --without-pip /opt/carp \
    && python -m pip --python /opt/build/bin/python install --require-hashes --only-binary :all: -r build.txt \
    && python -m pip --python /opt/carp/bin/python install --require-hashes --only-binary :all: -r runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY carp carp
COPY operator operator
RUN /opt/build/bin/python -m hatchling build -t wheel \
    && python -m pip --python /opt/carp/bin/python install --no-deps --no-index dist/*.whl


FROM python:3.13-slim

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="carp-operator" \
      org.opencontainers.image.description="Floating IP addresses by CARP: carpd, its agent and its controller" \
      org.opencontainers.image.licenses="BSD-2-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# With a read-only root nothing is compiled at run time: without bytecode of the standard library each start takes
# several times the processor time, and carpd's memory grows.
RUN python -m compileall -q -x '/(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 65532 carp \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin carp
COPY --from=build /opt/carp /opt/carp
ENV PATH=/opt/carp/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# carpd alone needs more: uid 0 with NET_ADMIN and NET_RAW, said where it is run.
USER 65532:65532
CMD ["carp", "--help"]
