"""What ``helora serve`` says when it starts, in 80 columns or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from helora_core.host.manager import get_manager
from helora_serve.catalogue import Version
from helora_serve.host import Host
from helora_serve.mode import CLIENT_KEY, HOSTED_WARNING, SEES, SPLIT_WARNING, modes_of
from helora_serve.split.routes import offer_of

_WIDTH = 80


def document_of(host: Host, artifacts: Sequence[str]) -> dict[str, Any]:
    """What is served, where, to whom and within which limits."""
    service = host.service
    modes = modes_of(service.modes).modes
    return {
        "event": "serving",
        "mode": modes[0].mode,
        "sees": list(modes[0].sees),
        "modes": msgspec.to_builtins(modes),
        "split": None if service.split is None else msgspec.to_builtins(offer_of(service.split)),
        "hosted": None if service.hosted is None else list(service.hosted.names),
        "address": host.url,
        **(_artifacts(service.catalogue.current, artifacts) if service.catalogue is not None else {}),
        "authentication": host.asks_for or None,
        "tls": host.tls is not None,
        "insecure": host.warning if host.insecure else None,
        "durable": service.state.durable,
        "limits": msgspec.to_builtins(service.limits),
        "session_bytes": service.limits.session_bytes,
    }


def _artifacts(current: Version, artifacts: Sequence[str]) -> dict[str, Any]:
    """What is served in mode ``client-key``."""
    backend = current.server.served.backend.name
    return {
        "artifacts": list(artifacts),
        "version": current.name,
        "backend": backend,
        "encrypts": get_manager().backends()[backend].spec.provides_security,
        "adapters": [
            {
                "name": each.name,
                "modules": len(each.modules),
                "queries_to_copy": each.queries_to_copy,
            }
            for each in current.document.adapters
        ],
        "packings": sorted({each.packing for each in current.document.plans}),
        "leakage": sorted({each.leakage for each in current.document.plans}),
        "assumes": sorted({what for each in current.document.plans for what in each.assumes}),
        "key_bytes": current.document.limits.key_bytes,
    }


def show(document: dict[str, Any], host: Host, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        click.echo(msgspec.json.encode(document))
        return
    limits = host.service.limits
    queries = "any number of" if limits.queries is None else f"at most {limits.queries}"
    keyed = host.service.catalogue is not None
    rows = [
        *(_client_key() if keyed else ()),
        *_others(host),
        ("address", document["address"]),
        *(_adapters(document) if keyed else ()),
        ("clients", f"{document['authentication'] or 'anybody, unauthenticated'}; "
                    + ("TLS" if document["tls"] else "no TLS")),
        ("limits", f"{limits.sessions} sessions, {limits.ttl_s:g} s without a frame, {limits.credits} requests in "
                   + (f"flight, {limits.window_bytes >> 20} MiB a window, {document['key_bytes'] >> 20} MiB of keys, "
                      if keyed else "flight, ") + f"{queries} queries {'a module' if keyed else 'of an adapter'}"),
        ("state", "counts of queries and prepared correlations are kept" if document["durable"] else
                  "in memory: a restart forgets counts of queries (--state DIR keeps them)"),
    ]  # fmt: skip
    for name, text in rows:
        lines = textwrap.wrap(text, _WIDTH - 10, break_long_words=False, break_on_hyphens=False)
        click.echo("\n".join(f"{name if not i else '':<9} {line}" for i, line in enumerate(lines)))
    if keyed and not document["encrypts"]:
        click.secho(f"{document['backend']} is an emulation and encrypts nothing.", fg="red", bold=True, err=True)
    if document["insecure"]:
        click.secho(f"INSECURE: {document['insecure']} (docs/serving.md).", fg="red", bold=True, err=True)
    click.echo("Ctrl-C ends it")


def _client_key() -> Iterator[tuple[str, str]]:
    yield "mode", f"{CLIENT_KEY}: clients keep base model, text and secret keys"
    yield "sees", f"{', '.join(SEES)}; no text, token, activation or Δ"


def _adapters(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is served in mode ``client-key``."""
    for each in document["adapters"]:
        yield "adapter", f"{each['name']}: {each['modules']} modules; {each['queries_to_copy']} queries copy one"
    assumed = ", ".join(document["assumes"]) or "nothing"
    plans, learn = ", ".join(document["packings"]), ", ".join(document["leakage"])
    yield "plans", f"{plans} on {document['backend']}; clients learn {learn}; assumed of them: {assumed}"


def _others(host: Host) -> Iterator[tuple[str, str]]:
    """What is served in other modes."""
    service = host.service
    if service.split is not None:
        layers = service.split.layers
        adapters = ", ".join(layers.adapters) or "no adapter"
        how = ", encrypted within this server" if layers.encrypted else ""
        yield "mode", f"split, at /v1/split: {layers.base.name} with {adapters}{how}; clients keep both ends"
        yield "sees", SPLIT_WARNING
    if service.hosted is not None:
        yield "mode", f"hosted, at /v1/chat/completions: {', '.join(service.hosted.names)}; clients send text"
        yield "sees", HOSTED_WARNING
