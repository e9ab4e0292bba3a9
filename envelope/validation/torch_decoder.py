"""A Llama-shaped decoder with random weights in PyTorch, one step replayed as a CUDA graph where there is a GPU.

Weights are bf16; the cache of every layer is read in place, as a serving engine does. Nothing here needs a GPU: on
``torch.device("cpu")`` the same code runs step by step, which is how the tests check it.
"""

from collections.abc import Callable
from typing import Any

from envelope.errors import MissingExtraError
from envelope.sensors.decoder_shape import DecoderShape


def torch_module() -> Any:
    """Return the ``torch`` module; raises ``MissingExtraError`` if it is not installed."""
    from importlib import import_module

    try:
        return import_module("torch")
    except ImportError:
        raise MissingExtraError("torch", "gpu") from None


class TorchDecoder:
    """A dense decoder on one device; one call of a step computes all layers and the head."""

    def __init__(self, torch: Any, shape: DecoderShape, device: Any, dtype: Any = None) -> None:
        if shape.experts is not None:
            raise ValueError("only dense decoders")
        self._torch, self._shape, self._device = torch, shape, device
        self._dtype = dtype or torch.bfloat16
        heads = shape.heads
        q, kv = heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim
        self._split = (q, kv, kv)
        # Fused as engines do: queries, keys and values in one product, gate and up in one.
        sizes = (
            (q + 2 * kv, shape.hidden),
            (shape.hidden, q),
            (2 * shape.ffn, shape.hidden),
            (shape.hidden, shape.ffn),
        )
        self._layers = [[self._random(*size) for size in sizes] for _ in range(shape.layers)]
        self._head = self._random(shape.vocab, shape.hidden)
        self._norm = torch.ones(shape.hidden, dtype=self._dtype, device=device)

    def _random(self, *size: int) -> Any:
        return self._torch.randn(size, dtype=self._dtype, device=self._device).mul_(size[-1] ** -0.5)

    def step(self, batch: int, new: int, depth: int) -> Callable[[], Any]:
        """Return a step of ``new`` tokens for each of ``batch`` sequences that hold ``depth`` tokens already.

        Calling it returns the logits of the last tokens, [batch, vocab], without waiting for the device.
        """
        torch, shape = self._torch, self._shape
        heads = shape.heads
        x = 0.1 * torch.randn((batch, new, shape.hidden), dtype=self._dtype, device=self._device)
        size = (batch, heads.kv_heads, depth + new, heads.head_dim)
        caches = [
            tuple(torch.randn(size, dtype=self._dtype, device=self._device) for _ in range(2))
            for _ in range(shape.layers)
        ]
        angles = self._angles(depth, new)

        def run() -> Any:
            return self._forward(x, caches, angles, depth)

        return self._graph(run)

    def _angles(self, depth: int, new: int) -> tuple[Any, Any]:
        """Return cosines and sines of rotary embedding for the new positions, [new, head_dim]."""
        torch, width = self._torch, self._shape.heads.head_dim
        rate = 10_000.0 ** (-torch.arange(0, width, 2, device=self._device, dtype=torch.float32) / width)
        at = torch.arange(depth, depth + new, device=self._device, dtype=torch.float32)[:, None] * rate[None, :]
        twice = torch.cat((at, at), dim=-1)
        return twice.cos().to(self._dtype), twice.sin().to(self._dtype)

    def _forward(self, x: Any, caches: list[Any], angles: tuple[Any, Any], depth: int) -> Any:
        functional = self._torch.nn.functional
        for (qkv, out, gate_up, down), cache in zip(self._layers, caches, strict=True):
            x = x + functional.linear(self._attend(functional.linear(self._normed(x), qkv), cache, angles, depth), out)
            gate, up = functional.linear(self._normed(x), gate_up).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, down)
        return functional.linear(self._normed(x[:, -1]), self._head)

    def _normed(self, x: Any) -> Any:
        return self._torch.nn.functional.rms_norm(x, (self._shape.hidden,), self._norm, 1e-5)

    def _attend(self, qkv: Any, cache: Any, angles: tuple[Any, Any], depth: int) -> Any:
        batch, new, _ = qkv.shape
        heads = self._shape.heads
        parts = qkv.split(self._split, dim=-1)
        q, k, v = (
            part.view(batch, new, count, heads.head_dim).transpose(1, 2)
            for part, count in zip(parts, (heads.heads, heads.kv_heads, heads.kv_heads), strict=True)
        )
        keys, values = cache
        keys[:, :, depth : depth + new] = self._rotated(k, angles)
        values[:, :, depth : depth + new] = v
        attended = self._torch.nn.functional.scaled_dot_product_attention(
            self._rotated(q, angles), keys, values, is_causal=depth == 0 and new > 1, enable_gqa=True
        )
        return attended.transpose(1, 2).reshape(batch, new, -1)

    def _rotated(self, x: Any, angles: tuple[Any, Any]) -> Any:
        first, second = x.chunk(2, dim=-1)
        return x * angles[0] + self._torch.cat((-second, first), dim=-1) * angles[1]

    def _graph(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Return ``run`` captured as a CUDA graph, so that launching does not hide the kernels."""
        torch = self._torch

        def inference() -> Any:
            with torch.inference_mode():
                return run()

        if self._device.type != "cuda":
            return inference
        from envelope.sensors.gpu_torch import captured

        return captured(torch, inference)
