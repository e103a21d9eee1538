// A program with its own operator new and delete, and none of the other forms: the standard has those call these.
#include "check.h"
#include <cstddef>
#include <new>

static const std::size_t header = 64;
static int news, deletes;

void *operator new(std::size_t size)
{
    if (size > PTRDIFF_MAX / 2)
        throw std::bad_alloc();
    char *block = static_cast<char *>(std::malloc(size + header));
    if (block == nullptr)
        throw std::bad_alloc();
    news++;
    return block + header;
}

#pragma GCC diagnostic ignored "-Wsized-deallocation"
void operator delete(void *block) noexcept
{
    if (block == nullptr)
        return;
    deletes++;
    std::free(static_cast<char *>(block) - header);
}

int main()
{
    check_library();
    operator delete(OPAQUE(operator new(10)));
    operator delete(OPAQUE(operator new(10)), std::size_t(10));
    operator delete[](OPAQUE(operator new[](10)));
    operator delete[](OPAQUE(operator new[](10)), std::size_t(10));
    operator delete(OPAQUE(operator new(10, std::nothrow)), std::nothrow);
    operator delete[](OPAQUE(operator new[](10, std::nothrow)), std::nothrow);
    CHECK(news == 6 && deletes == 6);
    CHECK(operator new(OPAQUE(std::size_t(1) << 62), std::nothrow) == nullptr);
    CHECK(operator new[](OPAQUE(std::size_t(1) << 62), std::nothrow) == nullptr);
    CHECK(news == 6);
    puts("replacements are called");
}
