/* A 32-bit program, without a C library: system calls by int 0x80 and by the way that the kernel prefers on this CPU,
 * which is SYSENTER on those of Intel and SYSCALL on those of AMD. Prints "ok NAME" or "FAILED NAME" lines; part of the
 * test script `work`. */

enum {
	SYS_exit = 1, SYS_fork = 2, SYS_write = 4, SYS_waitpid = 7, SYS_getpid = 20, SYS_ptrace = 26, SYS_kill = 37,
};
enum { PTRACE_TRACEME = 0, PTRACE_SINGLESTEP = 9, SIGSTOP = 19 };
enum { AT_NULL = 0, AT_SYSINFO = 32 };

/* What the kernel prefers; null when it names nothing. */
static long (*preferred)(void);

static long by_interrupt(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(0) : "memory");
	return result;
}

static long as_preferred(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("call *%5" : "=a"(result)
		: "0"(number), "b"(a), "c"(b), "d"(c), "m"(preferred) : "memory");
	return result;
}

/* Without a loop over the text: the compiler would make a call of strlen of it. */
#define SAY(text) by_interrupt(SYS_write, 1, (long)(text), sizeof(text) - 1)

#define VERDICT(name, good) \
	((good) ? SAY("ok 32-bit: " name "\n") : SAY("FAILED 32-bit: " name ": not so\n"))

/* Nothing of the flags may get lost on the way, nor hurt the kernel. */
static int flags_survive(void)
{
	unsigned long before = 0x40ed5, after; /* AC, OF, DF, IF, SF, ZF, AF, PF, CF */
	long result;

	__asm__ volatile("push %3\n\tpopf\n\tcall *%4\n\tpushf\n\tpop %1\n\tpush $2\n\tpopf"
		: "=a"(result), "=&r"(after)
		: "0"(SYS_getpid), "r"(before), "m"(preferred) : "memory", "cc");
	return result > 0 && (after & 0x40ed5) == before;
}

/* A child whose every instruction is a step of its own ends with its number after at least so many steps. */
static int steps_through(void)
{
	long child = by_interrupt(SYS_fork, 0, 0, 0);
	int status = 0, steps = 0;

	if (child == 0) {
		by_interrupt(SYS_ptrace, PTRACE_TRACEME, 0, 0);
		by_interrupt(SYS_kill, by_interrupt(SYS_getpid, 0, 0, 0), SIGSTOP, 0);
		by_interrupt(SYS_exit, as_preferred(SYS_write, 1, (long)"", 0) == 0 ? 42 : 1, 0, 0);
	}
	while (by_interrupt(SYS_waitpid, child, (long)&status, 0) == child && (status & 0xff) == 0x7f) {
		by_interrupt(SYS_ptrace, PTRACE_SINGLESTEP, child, 0);
		steps++;
	}
	return status == 42 << 8 && steps > 8;
}

static void checks(void)
{
	int number, same = 1, status = 0;
	long pid = by_interrupt(SYS_getpid, 0, 0, 0), child;

	VERDICT("a process id by int 0x80", pid > 1);
	VERDICT("the kernel names a way to call it", preferred != 0);
	if (!preferred)
		return;
	for (number = 0; number < 1000; number++)
		same &= as_preferred(SYS_getpid, 0, 0, 0) == pid;
	VERDICT("the same id by that way, a thousand times", same);
	VERDICT("three arguments", as_preferred(SYS_write, 1, (long)"", 0) == 0);
	VERDICT("an error is -EBADF", as_preferred(SYS_write, 99, 0, 0) == -9);
	VERDICT("flags are as they were", flags_survive());
	child = as_preferred(SYS_fork, 0, 0, 0);
	if (child == 0)
		as_preferred(SYS_exit, 42, 0, 0);
	VERDICT("a child ends with its number",
		as_preferred(SYS_waitpid, child, (long)&status, 0) == child && status == 42 << 8);
	VERDICT("a child is taken through such a call in steps", steps_through());
}

/* argc, then argv, the environment and what the kernel tells beside them. */
__attribute__((used, noreturn)) static void start(long *stack)
{
	long *at = stack + 1 + stack[0] + 1;

	while (*at++)
		;
	for (; at[0] != AT_NULL; at += 2)
		if (at[0] == AT_SYSINFO)
			preferred = (long (*)(void))at[1];
	checks();
	for (;;)
		by_interrupt(SYS_exit, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall start\n");
