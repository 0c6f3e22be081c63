# nertune serve on a CPU. Models are mounted, not copied:
#
#   docker build -t nertune .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/runs:/models:ro" nertune /models/my
#
# An adapter needs its base encoder: one that nertune bundles is there; another is mounted, too
# (--encoder /models/encoder), or fetched from the hub (-e HF_HUB_OFFLINE=0).
FROM python:3.11-slim

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src

# torch comes first, from PyTorch's index of builds without CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
RUN python -m pip install --no-cache-dir --constraint constraints.txt ".[serve,onnx]"

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin nertune
USER 10001
ENV HOME=/tmp HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["nertune", "serve", "--host", "0.0.0.0", "--port", "8000"]
