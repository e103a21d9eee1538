/* Loads a plug-in written in C++, whose C++ library is nobody else's. Runs with and without libhakmem.so. */
#include "check.h"

int main(int argc, char **argv)
{
    check_library();
    CHECK(argc == 2);
    CHECK(dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv") == NULL);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    int (*runs_out)(unsigned long) = (int (*)(unsigned long))dlsym(plugin, "runs_out_of_memory");
    CHECK(runs_out != NULL);
    CHECK(runs_out(100) == 0);
    CHECK(runs_out((unsigned long)1 << 62) == 1);
    puts("thrown and caught");
    return 0;
}
