"""JSON, threads, processes by fork, ctypes: what Python programs do. The output must not depend on the allocator."""
import ctypes
import hashlib
import json
import multiprocessing
import random
import threading

random.seed(42)


def tree(depth):
    if depth == 0:
        return random.choice([random.random(), random.randrange(10**12), "t" * random.randrange(300), None, True])
    return {f"key {i}": [tree(depth - 1) for _ in range(4)] for i in range(5)}


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


document = tree(4)
text = json.dumps(document)
assert json.loads(text) == document
print("json", len(text), digest(text))

results = [None] * 8


def work(number):
    part = [json.loads(json.dumps([number, str(n)] * 50)) for n in range(200)]
    results[number] = digest(json.dumps(part))


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("threads", digest("".join(results)))


def in_child(number):
    return digest(json.dumps(document) + str(number))


with multiprocessing.get_context("fork").Pool(3) as pool:
    print("fork", digest("".join(pool.map(in_child, range(12)))))

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for size in (1, 100, 10**4, 10**6, 10**7):
    block = libc.malloc(size)
    ctypes.memset(block, 7, size)
    assert ctypes.string_at(block, size) == b"\x07" * size
    libc.free(block)
print("ctypes", ctypes.string_at(ctypes.create_string_buffer(b"buffer")))
