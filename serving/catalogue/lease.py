"""The lease of whoever builds a generation, where services of several machines share a log: one of them builds at a time.

It lives in Redis for LIVES_S and is renewed while the build runs. A process that slept longer has lost it, and finds out when it asks.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from serving.catalogue.redis_log import ANSWER_S, PREFIX
from serving.config import ConfigError
from serving.errors import Unavailable
from serving.storage.redis import CONNECT_S

LIVES_S = 30.0
RENEW_S = 5.0

# KEYS: lease. ARGV: token, for how long it lives from now on (ms); 0 gives it back. Returns whether the lease is the token's.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""


class LeaseTaken(ConfigError):
    """Another service builds the next generation, or has built it meanwhile."""


@contextmanager
def hold_lease(url: str, name: str) -> Iterator[Callable[[], None]]:
    """Holds the lease of a catalogue's builds until the block ends. What it yields raises LeaseTaken once the lease is another's. Raises
    LeaseTaken, Unavailable."""
    redis = Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S)
    key, token = f"{PREFIX}{{{quote(name, safe='')}}}:build", secrets.token_hex(8)
    renew, ended = redis.register_script(_RENEW), threading.Event()

    def check() -> None:
        try:
            is_held = renew((key,), (token, int(LIVES_S * 1000)))
        except (RedisError, OSError) as error:
            raise Unavailable("the lease of the build cannot be read; nothing was swapped") from error
        if not is_held:
            raise LeaseTaken("the lease of this build ran out, and another service may build: nothing was swapped")

    def keep() -> None:
        while not ended.wait(RENEW_S):
            with suppress(Unavailable, LeaseTaken):  # who swaps asks again
                check()

    try:
        if not redis.set(key, token, nx=True, px=int(LIVES_S * 1000)):
            raise LeaseTaken("another service builds the next generation of this catalogue")
    except (RedisError, OSError) as error:
        raise Unavailable("the lease of the build cannot be taken: Redis cannot be reached") from error
    renewing = threading.Thread(target=keep, name="aisle-build-lease", daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        ended.set()
        renewing.join()
        with suppress(RedisError, OSError):
            renew((key,), (token, 0))
        redis.close()
