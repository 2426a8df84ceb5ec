# A service that turns photos into people: docker build -t kouros . && docker run -p 8000:8000 kouros
# One photo, no service: docker run --rm -v "$PWD:/photos" kouros kouros reconstruct /photos/photo.jpg --out /photos/results
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 NUMBA_CACHE_DIR=/var/cache/kouros

RUN useradd --create-home --uid 1000 kouros && mkdir -p /var/cache/kouros && chown kouros /var/cache/kouros
WORKDIR /app

# Builds of torch without CUDA are a tenth of the size: --build-arg PIP_EXTRA_INDEX_URL=... with the address that
# pytorch.org/get-started names for CPUs.
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt ./
COPY tools/get_torch.py tools/
RUN python tools/get_torch.py

COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN pip install -c constraints.txt .
COPY examples/9_server.py ./

USER 1000
# Compiles for the processor that builds the image; another kind of processor compiles again, once.
RUN kouros warmup
EXPOSE 8000
CMD ["python", "9_server.py", "--host", "0.0.0.0", "--port", "8000"]
