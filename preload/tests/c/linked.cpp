// As linked.c, with what C++ adds: operators new and delete, and an exception where there is no memory.
#include <cstddef>
#include <cstdio>
#include <hakmem.h>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

int main()
{
    constexpr int BLOCKS = 1000, THREADS = 4;
    hakmem_stats before{}, after{};
    before.struct_size = after.struct_size = sizeof before;
    if (hakmem_stats_get(&before) != 0)
        return 1;
    std::unique_ptr<std::string> blocks[BLOCKS];
    for (auto &block : blocks)
        block = std::make_unique<std::string>("short");
    if (hakmem_stats_get(&after) != 0)
        return 2;
    std::vector<std::thread> threads;
    for (int i = 0; i < THREADS; i++)
        threads.emplace_back([] {
            for (std::size_t i = 0; i < 100000; i++)
                std::vector<char>(i % 3000);
        });
    for (auto &thread : threads)
        thread.join();
    try {
        volatile std::size_t most = std::size_t(1) << 62;
        void *volatile block = ::operator new(most);
        return block == nullptr ? 3 : 4;
    } catch (const std::bad_alloc &) {
    }
    std::printf("%lld blocks, %d threads\n", (long long)(after.live_blocks - before.live_blocks), THREADS);
}
