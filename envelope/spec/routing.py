"""Which request goes where: the policies of the router. The kernel's ``policy`` does what each of them means."""

from typing import Literal, get_args

from pydantic import Field

from envelope.provenance import Frozen

Policy = Literal["local_only", "hosted_only", "overflow", "escalate", "by_sensitivity", "long_context"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
"""Their positions are the numbers by which the simulation's kernel knows them."""


class Routing(Frozen):
    """Which request goes where. Whatever the policy, a private request stays inside when it must."""

    policy: Policy
    overflow_wait_s: float = Field(default=10.0, ge=0)
    """``overflow``: expected local wait above which a request that may leave is sent out."""
    escalate_after_failure: bool = True
    """``escalate``: whether hard tasks are first tried locally, whose time and cost then count."""
    long_context_tokens: int = Field(default=32_768, ge=1)
    """``long_context``: prompt length above which a request goes to the second pool or the hosted API."""
