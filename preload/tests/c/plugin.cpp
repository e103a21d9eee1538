// A plug-in in C++ for a program in C that knows no C++ library: operator new must find one that throws.
#include <new>

extern "C" int runs_out_of_memory(unsigned long size)
{
    try {
        operator delete(operator new(size));
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
