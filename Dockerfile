# The dashboard in a container:  docker build -t envelope . && docker run -p 8501:8501 envelope
# Own records: -v "$PWD/mine:/data" (models/, hardware_profiles/, scenarios/ … as in the README).
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md app.py ./
COPY envelope ./envelope
COPY hardware_profiles ./hardware_profiles
COPY scenarios ./scenarios
COPY .streamlit ./.streamlit
RUN python -m venv /opt/envelope && /opt/envelope/bin/pip install --no-cache-dir '.[ui,fast,report,pdf]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 envelope && mkdir /data && chown envelope /data
COPY --from=build /opt/envelope /opt/envelope
USER envelope
ENV PATH=/opt/envelope/bin:$PATH ENVELOPE_DATA=/data PYTHONUNBUFFERED=1
WORKDIR /home/envelope
# Machine code of the simulation, once, so that no visitor waits for the compiler.
RUN python -c 'from envelope.serving.warm import prepare; prepare()'
# The page and its settings, which Streamlit reads where it is started.
RUN python -c 'import shutil, envelope, pathlib; data = pathlib.Path(envelope.__file__).parent / "_data"; shutil.copy(data / "app.py", "."); shutil.copytree(data / ".streamlit", ".streamlit")'
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true", "--browser.gatherUsageStats=false"]
