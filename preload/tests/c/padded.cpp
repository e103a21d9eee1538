// A program that replaced one form of new that does not throw, and asks malloc for more than it was asked for. FORM says which:
// 1 single, 2 array, 3 aligned, 4 aligned array. What such a block was allocated with is not what its delete names.
#include "check.h"
#include <cstddef>
#include <new>

static const std::size_t more = 64;

#if FORM == 1
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return std::malloc(size + more); }
#elif FORM == 2
void *operator new[](std::size_t size, const std::nothrow_t &) noexcept { return std::malloc(size + more); }
#else
static void *padded(std::size_t size, std::align_val_t align) noexcept
{
    const std::size_t unit = static_cast<std::size_t>(align);
    return std::aligned_alloc(unit, (size + unit + more) / unit * unit);
}
#if FORM == 3
void *operator new(std::size_t size, std::align_val_t align, const std::nothrow_t &) noexcept { return padded(size, align); }
#else
void *operator new[](std::size_t size, std::align_val_t align, const std::nothrow_t &) noexcept { return padded(size, align); }
#endif
#endif

int main()
{
    check_library();
    const std::align_val_t align{128};
    const std::size_t sizes[] = {100, 2000000};
    for (std::size_t size : sizes) {
        operator delete(OPAQUE(operator new(size, std::nothrow)), size);
        operator delete[](OPAQUE(operator new[](size, std::nothrow)), size);
        operator delete(OPAQUE(operator new(size, align, std::nothrow)), size, align);
        operator delete[](OPAQUE(operator new[](size, align, std::nothrow)), size, align);
    }
    puts("padded");
}
