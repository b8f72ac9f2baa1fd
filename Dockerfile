# Two stages: one installs what the lock file pins, the other runs it without a package manager's caches.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/fraudstream
ENV PATH=/opt/fraudstream/bin:$PATH
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY fraudstream fraudstream
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
# LightGBM's threads come from GNU OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 fraudstream \
    && install -d -o fraudstream /var/lib/fraudstream/models /var/lib/fraudstream/archive /var/lib/fraudstream/snapshots
COPY --from=build /opt/fraudstream /opt/fraudstream
ENV PATH=/opt/fraudstream/bin:$PATH NUMBA_CACHE_DIR=/home/fraudstream/numba FRAUDSTREAM_LOG=json
USER fraudstream
WORKDIR /home/fraudstream
# Compile the kernels now, so that a container is ready in seconds.
RUN python -c "from fraudstream.features import build_catalog; \
from fraudstream.settings import load_settings; \
from fraudstream.stream.build import warm_kernels; \
settings = load_settings(); \
warm_kernels(build_catalog(settings.features, settings.event), settings)"
EXPOSE 6066
ENTRYPOINT ["fraudstream"]
CMD ["worker"]
