"""Foreign names find the device, engine, format and model that they mean."""

import pytest

from envelope.validation.model_names import find_model, size_in
from envelope.validation.names import find_device, find_engine, find_format


@pytest.mark.parametrize(
    ("name", "ident"),
    [
        ("H100", "nvidia-h100-sxm-80gb"),
        ("H100 PCIe 80GB", "nvidia-h100-pcie-80gb"),
        ("b200_sxm", "nvidia-b200-sxm-180gb"),
        ("NVIDIA H200-NVL-141GB", "nvidia-h200-nvl-141gb"),
        ("3080 Ti 12GB", "nvidia-rtx-3080-ti-12gb"),
        ("RTX 4070 Ti Super", "nvidia-rtx-4070-ti-super-16gb"),
        ("NVIDIA GeForce RTX 4090", "nvidia-rtx-4090-24gb"),
        ("Pi CM5 - 16GB (Nvidia RTX 3060)", "nvidia-rtx-3060-12gb"),
        ("Intel 265K Custom PC (AMD Radeon AI Pro R9700)", "amd-radeon-ai-pro-r9700-32gb"),
        ("Ryzen 9 9950X (AMD 7900 XT)", "amd-rx-7900-xt-20gb"),
        ("HiFive Premier P550 (4-core RISC-V)", "sifive-p550-16gb"),
        ("M1 Ultra (48 GPU Core) 64GB", "apple-m1-ultra-48core-64gb"),
        ("M1 7‑Core GPU 8GB", "apple-m1-7core-8gb"),
        ("MacBook Pro M4 Max 128GB", "apple-m4-max-128gb"),
        ("Apple M2 Max (CPU only, 8 P-cores)", "apple-m2-max-cpu-64gb"),
        ("AMD Ryzen AI Max+ 395 / Radeon 8060S (Strix Halo, 128GB)", "amd-ryzen-ai-max-395-128gb"),
        ("Jetson AGX Orin 64GB", "nvidia-jetson-agx-orin-64gb"),
    ],
)
def test_devices(name, ident):
    assert find_device(name).profile.id == ident


def test_the_host_of_a_card_is_kept():
    assert find_device("Pi 5 - 16GB (AMD Pro W7700)").host == "Pi 5 - 16GB"


def test_a_cluster_counts_its_devices():
    assert find_device("Raspberry Pi CM5 Cluster (10x 16GB)").count == 10


@pytest.mark.parametrize("name", ["GPU count 8 (see source)", "Steam Deck", "RTX 9999"])
def test_an_unknown_device_is_not_guessed(name):
    assert find_device(name) is None


@pytest.mark.parametrize(
    ("name", "version", "ident"),
    [
        ("TensorRT 10.11, CUDA 12.9", "", "tensorrt-llm"),
        ("trtllm", "1.2.0", "tensorrt-llm"),
        ("NVIDIA NIM", "1.8.0", "tensorrt-llm"),
        ("vLLM", "0.15.1", "vllm"),
        ("vLLM", "0.11.1", "vllm-0.11"),
        ("vLLM", "0.12.0", "vllm-0.11"),
        ("llama.cpp", "2024-05", "llama.cpp-2024"),
        ("llama.cpp", "b6918 (2f68ce7cf)", "llama.cpp"),
        ("llama.cpp Vulkan RADV", "", "llama.cpp"),
        ("ik_llama.cpp", "2024-07", "ik-llama.cpp"),
        ("Ollama / llama.cpp (Vulkan for sup-1 GPUs)", "", "ollama"),
        ("OpenVINO Model Server", "", "openvino"),
        ("LMDeploy TurboMind", "0.2.0", "lmdeploy"),
    ],
)
def test_engines(name, version, ident):
    assert find_engine(name, version).id == ident


@pytest.mark.parametrize(
    ("name", "ident"),
    [
        ("bfloat16", "bf16"),
        ("fp16", "f16"),
        ("fp8_block", "fp8-block"),
        ("q4_k_m-class (Ollama default tag)", "q4_k_m"),
        ("IQ4_XS", "iq4_xs"),
        ("Q4_K_XL", "ud-q4_k_xl"),
        ("nvfp4", "nvfp4"),
    ],
)
def test_formats(name, ident):
    assert find_format(name).id == ident


@pytest.mark.parametrize(
    ("name", "ident", "weights"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", None),
        ("LLaMA v3.1 70B", "llama-3.1-70b", None),
        ("Qwen3.6-35B-A3B-UD-Q4_K_XL", "qwen3.6-35b-a3b", "Q4_K_XL"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1", "NVFP4"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b", "FP8"),
        ("llama-2-7b.Q4_0", "llama-2-7b", "Q4_0"),
        ("gpt-oss:20b", "gpt-oss-20b", None),
        ("codellama/CodeLlama-34b-Instruct-hf", "codellama-34b", None),
    ],
)
def test_models(name, ident, weights):
    found = find_model(name)
    assert (found.model.id, found.weights) == (ident, weights)


def test_a_model_of_stated_size_gets_a_stand_in_of_that_size():
    from envelope.perf.work import param_counts

    found = find_model("Unheard-of-33B-A4B-Instruct")
    counts = param_counts(found.model)
    assert found.assumed
    assert counts.total == pytest.approx(33e9, rel=0.05)
    assert counts.active == pytest.approx(4e9, rel=0.25)


def test_a_dense_stand_in_meets_its_size():
    from envelope.perf.work import param_counts

    found = find_model("Unheard-of-13.5B")
    assert found.model.moe is None
    assert param_counts(found.model).total == pytest.approx(13.5e9, rel=0.05)


def test_a_model_without_size_or_family_is_not_guessed():
    assert find_model("mystery-model") is None


def test_size_in_name():
    assert size_in("Foo-8x7B") == pytest.approx((47.6e9, 12.6e9))
    assert size_in("Foo-70b") == (70e9, 70e9)
    assert size_in("Foo-v2") is None
