// Every form of operator new and delete, with memory and without, with and without a new-handler.
#include "check.h"
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

static int handled;

static void gives_up()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

struct FromHandler : std::bad_alloc {
    int number = 42;
};

static void throws()
{
    handled++;
    throw FromHandler();
}

struct alignas(256) Wide {
    char bytes[300];
};

template <class Call> static bool throws_bad_alloc(Call call)
{
    try {
        call();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static volatile std::size_t too_much = std::size_t(1) << 62;
static const std::align_val_t align{512};

static void with_memory()
{
    for (std::size_t size = 0; size < 5000; size += 7) {
        std::vector<void *> blocks = {
            operator new(size), operator new[](size), operator new(size, std::nothrow),
            operator new[](size, std::nothrow),
        };
        std::vector<void *> wide = {
            operator new(size, align), operator new[](size, align), operator new(size, align, std::nothrow),
            operator new[](size, align, std::nothrow),
        };
        for (void *block : blocks) {
            CHECK(block != nullptr && reinterpret_cast<uintptr_t>(block) % 16 == 0);
            memset(block, 1, size);
        }
        for (void *block : wide) {
            CHECK(block != nullptr && reinterpret_cast<uintptr_t>(block) % 512 == 0);
            memset(block, 1, size);
        }
        operator delete(blocks[0]);
        operator delete[](blocks[1], size);
        operator delete(blocks[2], std::nothrow);
        operator delete[](blocks[3], std::nothrow);
        operator delete(wide[0], align);
        operator delete[](wide[1], size, align);
        operator delete(wide[2], align, std::nothrow);
        operator delete[](wide[3], align, std::nothrow);
        operator delete(operator new(size), size);
        operator delete[](operator new[](size));
        operator delete(operator new(size, align), size, align);
        operator delete[](operator new[](size, align), align);
    }
    operator delete(nullptr);
    operator delete[](nullptr);
    operator delete(nullptr, align);
    auto wide = std::make_unique<Wide[]>(5);
    CHECK(reinterpret_cast<uintptr_t>(wide.get()) % 256 == 0);
}

static void without_memory()
{
    CHECK(throws_bad_alloc([] { operator delete(operator new(too_much)); }));
    CHECK(throws_bad_alloc([] { operator delete[](operator new[](too_much)); }));
    CHECK(throws_bad_alloc([] { operator delete(operator new(too_much, align), align); }));
    CHECK(throws_bad_alloc([] { operator delete[](operator new[](too_much, align), align); }));
    CHECK(operator new(too_much, std::nothrow) == nullptr);
    CHECK(operator new[](too_much, std::nothrow) == nullptr);
    CHECK(operator new(too_much, align, std::nothrow) == nullptr);
    CHECK(operator new[](too_much, align, std::nothrow) == nullptr);
    CHECK(throws_bad_alloc([] { std::string text(too_much / 2, 'x'); }));
}

static void with_a_handler()
{
    // Called until it changes something.
    handled = 0;
    std::set_new_handler(gives_up);
    CHECK(throws_bad_alloc([] { operator delete(operator new(too_much)); }));
    CHECK(handled == 3);
    handled = 0;
    std::set_new_handler(gives_up);
    CHECK(operator new[](too_much, std::nothrow) == nullptr);
    CHECK(handled == 3);
    handled = 0;
    std::set_new_handler(gives_up);
    CHECK(throws_bad_alloc([] { operator delete(operator new(too_much, align), align); }));
    CHECK(handled == 3);
    // What it throws passes the throwing forms and ends in the others.
    handled = 0;
    std::set_new_handler(throws);
    int number = 0;
    try {
        operator delete[](operator new[](too_much));
    } catch (const FromHandler &thrown) {
        number = thrown.number;
    }
    CHECK(number == 42 && handled == 1);
    CHECK(operator new(too_much, std::nothrow) == nullptr);
    CHECK(operator new(too_much, align, std::nothrow) == nullptr);
    CHECK(handled == 3);
    std::set_new_handler(nullptr);
}

static void threads_and_exceptions()
{
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; t++)
        threads.emplace_back([t] {
            std::vector<std::string> texts;
            for (int i = 0; i < 2000; i++) {
                try {
                    texts.push_back(std::string(i % 300, char('a' + t)));
                    if (i % 5 == 0)
                        throw std::string("thrown by ") + std::to_string(t);
                } catch (const std::string &text) {
                    CHECK(text == "thrown by " + std::to_string(t));
                    CHECK(throws_bad_alloc([] { operator delete(operator new(too_much)); }));
                }
            }
            for (int i = 0; i < 2000; i++)
                CHECK(texts[i] == std::string(i % 300, char('a' + t)));
        });
    for (auto &thread : threads)
        thread.join();
}

int main()
{
    check_library();
    with_memory();
    without_memory();
    with_a_handler();
    threads_and_exceptions();
    puts("operators hold");
}
