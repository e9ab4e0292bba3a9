"""What the tests of ``validate --server`` share."""

from envelope.spec.deployment import EngineSettings
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load
from envelope.spec.model import Model
from envelope.validation.server.client import Server
from envelope.validation.server.predict import Served
from tests.validation.fake_engine import FakeEngine

VOCAB = 4096


def quiet(_share: float, _what: str) -> None:
    pass


def server_of(engine: FakeEngine) -> Server:
    return Server(engine.url, "random", VOCAB, timeout_s=10.0)


def served(**changes) -> Served:
    """A catalog's processor and model, with an engine whose overheads are round."""
    engine = load(Engine, "engines", "vllm-cpu", file="test", path="engine").changed(**changes)
    hardware = load(HardwareProfile, "hardware_profiles", "amd-epyc-7763-512gb", file="test", path="hardware")
    model = load(Model, "models", "llama-3.2-1b", file="test", path="model")
    settings = EngineSettings(max_num_seqs=16, max_num_batched_tokens=512, prefix_cache=True)
    return Served(model, hardware, engine, "native", "bf16", settings)
