"""Writes through failovers, found by Sentinel: python3 failover.py HOST PORT GROUP.

Prints "acked N" for each acknowledged write, until its input ends; then reads everything back and prints "intact N" or what is
wrong."""
import sys
import threading
import time

import redis
from redis.sentinel import Sentinel

host, port, group = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sentinel = Sentinel([(host, port)], socket_timeout=1, decode_responses=True)
master = sentinel.master_for(group, socket_timeout=1, decode_responses=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()


def fail(text):
    print("wrong:", text, flush=True)
    sys.exit(1)


def again(operation):
    """Repeats what may be repeated until it is answered."""
    end = time.time() + 60
    while True:
        try:
            return operation()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError) as e:
            if time.time() > end:
                fail(repr(e))
            time.sleep(0.01)


def before():
    """What the client's other parts make of the server."""
    pipe = master.pipeline(transaction=False)
    for i in range(100):
        pipe.rpush("list", i)
    if pipe.execute() != list(range(1, 101)):
        fail("pipeline")
    if master.lrange("list", 0, -1) != [str(i) for i in range(100)]:
        fail("lrange")
    master.hset("hash", mapping={"a": 1, "b": 2.5})
    if master.hgetall("hash") != {"a": "1", "b": "2.5"}:
        fail("hgetall")
    master.zadd("zset", {"x": 1.5, "y": 2})
    if master.zrange("zset", 0, -1, withscores=True) != [("x", 1.5), ("y", 2.0)]:
        fail("zrange")
    master.set("counter", 5)

    def increment(pipe):
        value = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", value + 1)

    if master.transaction(increment, "counter") != [True] or master.get("counter") != "6":
        fail("transaction")
    with master.pipeline() as pipe:
        pipe.watch("counter")
        master.incr("counter")
        pipe.multi()
        pipe.set("counter", 0)
        try:
            pipe.execute()
            fail("a watched key was changed, and the transaction executed")
        except redis.exceptions.WatchError:
            pass
    if master.get("counter") != "7":
        fail("watch")
    try:
        master.lpush("counter", 1)
        fail("wrong type")
    except redis.exceptions.ResponseError as e:
        if not str(e).startswith("WRONGTYPE"):
            fail(repr(e))
    if sorted(master.scan_iter(match="?*e*", count=10)) != ["counter", "zset"]:
        fail("scan")
    if master.info()["role"] != "master" or [c["name"] for c in master.client_list() if c["name"] == "py"] != []:
        fail("info")
    masters = sentinel.sentinels[0].sentinel_masters()
    if masters[group]["num-slaves"] != 1 or not masters[group]["is_master"]:
        fail("masters: %r" % masters)


before()
n = 0
while not ended.is_set():
    again(lambda: master.set("key-%d" % n, n))
    n += 1
    print("acked", n, flush=True)
for i in range(n):
    if again(lambda: master.get("key-%d" % i)) != str(i):
        fail("write %d of %d is lost" % (i, n))
print("intact", n, flush=True)
