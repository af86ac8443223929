"""Room on a Ray cluster: what a job asks of it, and the line that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Amounts = Mapping[str, float]


@dataclass(frozen=True)
class Need:
    """What a job asks of a cluster: `each` resources, from `fewest` to `most` times, for `what` it runs."""

    each: Amounts
    fewest: int
    most: int
    what: str = "worker"


@dataclass(frozen=True)
class Supply:
    """What a cluster has: free and in all, and each living node's total."""

    free: Amounts
    total: Amounts
    nodes: Sequence[Amounts]

    def largest(self, name: str) -> float:
        """The most that one node has of a resource, free or not."""
        return max((node.get(name, 0.0) for node in self.nodes), default=0.0)


def supply() -> Supply:
    """What the cluster has now that this process has joined."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Supply(ray.available_resources(), ray.cluster_resources(), nodes)


def waits(need: Need, ready: int, there: Supply, seconds: float) -> str:
    """The line of a job that has waited for `seconds`; the platform shows it as the job's message."""
    return f"waits for resources ({seconds:.0f} s): {missing(need, ready, there)}"


def missing(need: Need, ready: int, there: Supply) -> str:
    """One line: how many workers fit, and for each resource what is asked, free and there.

    Args:
        ready: workers that fit; their resources count as free, as they are held for this job.
    """
    each = " + ".join(f"{amount:g} {name}" for name, amount in need.each.items())
    wanted = f"{need.most}" if need.fewest == need.most else f"{need.fewest} to {need.most}"
    parts = []
    for name, amount in need.each.items():
        largest = there.largest(name)
        total, free = there.total.get(name, 0.0), there.free.get(name, 0.0) + ready * amount
        text = f"{name}: {need.most * amount:g} asked, {free:g} free, {total:g} in all"
        if not largest:
            text = f"{name}: {need.most * amount:g} asked, in no node"
        elif largest < amount:
            text += f", and no node has {amount:g} (the largest {largest:g})"
        parts.append(text)
    return f"{wanted} {need.what}(s) of {each} asked, room for {ready}. " + "; ".join(parts)


def lacks(need: Need, there: Supply) -> bool:
    """Whether one more does not fit now: too little is free, or no node is large enough."""
    return any(
        there.free.get(name, 0.0) < amount or there.largest(name) < amount
        for name, amount in need.each.items()
    )
