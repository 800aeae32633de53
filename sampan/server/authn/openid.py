"""How others check our tokens themselves: the issuer's OpenID documents (RFC 8414, RFC 7517)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.wire.json import dumps

from ..answer import cacheable
from ..exchange import Response

if TYPE_CHECKING:
    from ..app import Server

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/openid/v1/jwks"
MAX_AGE = "public, max-age=3600"


def answer(server: Server, path: str) -> Response | None:
    """The document at `path`, None when it is another path."""
    config = server.config
    if path == DISCOVERY:
        discovery: Object = {
            "issuer": config.issuer,
            "jwks_uri": f"https://{config.advertise_host}:{config.advertise_port}{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": server.authn.tokens.keys.algorithms(),
        }
        return cacheable(Response(body=dumps(discovery)), MAX_AGE)
    if path == KEYS:
        keys = {"keys": server.authn.tokens.keys.public_jwks()}
        made = Response(body=dumps(keys), content_type="application/jwk-set+json")
        return cacheable(made, MAX_AGE)
    return None
