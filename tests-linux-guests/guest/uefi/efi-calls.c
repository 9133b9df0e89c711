/* Calls of EFI's runtime services by hypercalls of our own: those that no program of dom0 makes, and those that
 * none should. Prints "ok NAME" or "FAILED NAME: why" lines; part of the test script `uefi`. */
#define __XEN_TOOLS__ 1
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <xen/xen.h>
#include <xen/platform.h>

#define HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct request))
#define EFI_ERROR (1ull << 63)
#define ATTRIBUTES 7 /* non-volatile, boot and runtime access */

struct request {
	uint64_t number, arguments[5];
};

static int device, failures;
static struct xen_platform_op op;
static uint16_t name[4096];
static uint8_t data[8192];
static const struct xenpf_efi_guid own = { 0x5c4a6ea1, 0x3a0c, 0x4a6c, { 0x9a, 0x6e, 0x7c, 0x1d, 0x2f, 0x5b, 0x9e, 0x10 } };

static void verdict(const char *what, int good)
{
	if (good) {
		printf("ok EFI calls: %s\n", what);
	} else {
		printf("FAILED EFI calls: %s: errno %d, status %llx, misc %x\n", what, errno,
		       (unsigned long long)op.u.efi_runtime_call.status, op.u.efi_runtime_call.misc);
		failures++;
	}
}

/* Makes the call that stands in `op`: 0, or the errno. */
static int call(uint32_t function, uint32_t misc)
{
	struct request request = { __HYPERVISOR_platform_op, { (uintptr_t)&op } };

	op.cmd = XENPF_efi_runtime_call;
	op.interface_version = XENPF_INTERFACE_VERSION;
	op.u.efi_runtime_call.function = function;
	op.u.efi_runtime_call.misc = misc;
	errno = 0;
	return ioctl(device, HYPERCALL, &request) < 0 ? errno : 0;
}

static uint64_t status(void)
{
	return op.u.efi_runtime_call.status;
}

static void set_name(const char *text)
{
	memset(name, 0, sizeof name);
	for (int i = 0; text[i]; i++)
		name[i] = text[i];
}

/* Both variable calls have their arguments at the same place. */
static int variable(uint32_t function, uint32_t misc, const void *where, uint64_t size, void *value)
{
	memset(&op, 0x5a, sizeof op);
	op.u.efi_runtime_call.u.get_variable.name.p = (void *)where;
	op.u.efi_runtime_call.u.get_variable.size = size;
	op.u.efi_runtime_call.u.get_variable.data.p = value;
	op.u.efi_runtime_call.u.get_variable.vendor_guid = own;
	return call(function, misc);
}

static int get(const void *where, uint64_t size, void *value)
{
	return variable(XEN_EFI_get_variable, 0, where, size, value);
}

static int set(const void *where, uint64_t size, void *value)
{
	return variable(XEN_EFI_set_variable, ATTRIBUTES, where, size, value);
}

static void clock_calls(void)
{
	struct xenpf_efi_time now;
	struct tm parts = { 0 };

	memset(&op, 0, sizeof op);
	verdict("GetTime", call(XEN_EFI_get_time, 0) == 0 && status() == 0);
	now = op.u.efi_runtime_call.u.get_time.time;
	parts.tm_year = now.year - 1900;
	parts.tm_mon = now.month - 1;
	parts.tm_mday = now.day;
	parts.tm_hour = now.hour;
	parts.tm_min = now.min;
	parts.tm_sec = now.sec;
	verdict("GetTime agrees with the kernel's clock", labs(timegm(&parts) - time(NULL)) < 120);
	memset(&op, 0, sizeof op);
	op.u.efi_runtime_call.u.set_time = now;
	verdict("SetTime", call(XEN_EFI_set_time, 0) == 0 && status() == 0);
	memset(&op, 0, sizeof op);
	verdict("SetTime with a month 13", (op.u.efi_runtime_call.u.set_time = now,
		op.u.efi_runtime_call.u.set_time.month = 13, call(XEN_EFI_set_time, 0)) == 0 && status() & EFI_ERROR);
	memset(&op, 0, sizeof op);
	verdict("GetWakeupTime", call(XEN_EFI_get_wakeup_time, 0) == 0);
	memset(&op, 0, sizeof op);
	verdict("SetWakeupTime off", call(XEN_EFI_set_wakeup_time, XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY) == 0);
}

static void variable_calls(void)
{
	unsigned found = 0, boot_order = 0;
	uint32_t first;

	set_name("XenolithCall");
	memset(data, 7, 100);
	verdict("SetVariable", set(name, 100, data) == 0 && status() == 0);
	memset(data, 0, sizeof data);
	verdict("GetVariable", get(name, sizeof data, data) == 0 && status() == 0 && data[99] == 7 && data[100] == 0
		&& op.u.efi_runtime_call.u.get_variable.size == 100 && op.u.efi_runtime_call.misc == ATTRIBUTES);
	verdict("GetVariable tells the size", get(name, 10, data) == 0 && status() == (EFI_ERROR | 5)
		&& op.u.efi_runtime_call.u.get_variable.size == 100);
	/* Debian's Xen wants so much memory. */
	verdict("GetVariable with a size of 2^63", get(name, EFI_ERROR, data) == ENOMEM || (!errno && status() == 0));
	verdict("a variable that is not there", (set_name("XenolithNone"), get(name, 8, data)) == 0
		&& status() == (EFI_ERROR | 14));

	memset(name, 0, sizeof name);
	memset(&op, 0, sizeof op);
	do {
		op.u.efi_runtime_call.u.get_next_variable_name.size = 1024;
		op.u.efi_runtime_call.u.get_next_variable_name.name.p = name;
		if (call(XEN_EFI_get_next_variable_name, 0) || status())
			break;
		found++;
		boot_order |= !memcmp(name, u"BootOrder", 20);
	} while (found < 1000);
	verdict("GetNextVariableName finds all", found > 15 && found < 1000 && boot_order && status() == (EFI_ERROR | 14));

	memset(&op, 0, sizeof op);
	op.u.efi_runtime_call.u.query_variable_info.attr = ATTRIBUTES;
	verdict("QueryVariableInfo", call(XEN_EFI_query_variable_info, 0) == 0 && status() == 0
		&& op.u.efi_runtime_call.u.query_variable_info.max_store_size > op.u.efi_runtime_call.u.query_variable_info.remain_store_size
		&& op.u.efi_runtime_call.u.query_variable_info.remain_store_size > 0);
	verdict("GetNextHighMonotonicCount", call(XEN_EFI_get_next_high_monotonic_count, 0) == 0 && status() == 0);
	first = op.u.efi_runtime_call.misc;
	verdict("and once more", call(XEN_EFI_get_next_high_monotonic_count, 0) == 0 && op.u.efi_runtime_call.misc > first);
}

/* What no kernel should say: an errno, and the machine goes on. */
static void bad_calls(void)
{
	static const uint64_t wild[] = { 1, 0x7fff00000000, 0x800000000000, 0xffff800000000000, 0xffff82d040200000,
		0xffff830000000000, 0xffff840000000000, 0xffffffffffffffff };
	static const uint32_t unknown[] = { 0, XEN_EFI_query_capsule_capabilities, XEN_EFI_update_capsule, 12, 0xffffffff };
	uint8_t *end = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char what[80];

	munmap(end + 4096, 4096);
	for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++) {
		void *where = (void *)wild[i];
		int good;

		set_name("XenolithCall");
		good = get(where, 8, data) == EFAULT && get(name, sizeof data, where) == EFAULT
			&& set(where, 8, data) == EFAULT && set(name, 8, where) == EFAULT;
		memset(&op, 0, sizeof op);
		op.u.efi_runtime_call.u.get_next_variable_name.size = 1024;
		op.u.efi_runtime_call.u.get_next_variable_name.name.p = where;
		good = good && call(XEN_EFI_get_next_variable_name, 0) == EFAULT;
		sprintf(what, "pointers to %#llx", (unsigned long long)wild[i]);
		verdict(what, good);
	}
	for (unsigned i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		memset(&op, 0x5a, sizeof op);
		sprintf(what, "function %#x", unknown[i]);
		verdict(what, call(unknown[i], 0) == ENOSYS);
	}
	for (uint32_t function = XEN_EFI_get_time; function <= XEN_EFI_query_variable_info; function++) {
		memset(&op, 0, sizeof op);
		sprintf(what, "function %u with flags", function);
		if (function != XEN_EFI_set_variable)
			verdict(what, call(function, 0x80) == EINVAL);
	}
	verdict("SetVariable with a size of 2^63", set(name, EFI_ERROR, data) == ENOMEM);
	verdict("SetVariable with a size of 2^64 - 1", set(name, ~0ull, data) == ENOMEM);
	memset(name, 'A', sizeof name);
	/* Debian's Xen passes on what it finds up to the next zero. */
	verdict("a name without an end", get(name, 8, data) == EINVAL || (!errno && status() == (EFI_ERROR | 14)));
	memset(&op, 0, sizeof op);
	op.u.efi_runtime_call.u.get_next_variable_name.size = 512;
	op.u.efi_runtime_call.u.get_next_variable_name.name.p = name;
	verdict("a last name without an end", call(XEN_EFI_get_next_variable_name, 0) == 0 && status() == (EFI_ERROR | 2));
	memset(end, 'A', 4096);
	verdict("a name up to memory's end", get(end + 3996, 8, data) == EFAULT);
	memcpy(end + 4096 - 26, u"XenolithCall", 26);
	verdict("a name that ends with its page", get(end + 4096 - 26, sizeof data, data) == 0 && status() == 0);
	verdict("a name at an odd address", (memcpy(end + 1, u"XenolithCall", 26), get(end + 1, sizeof data, data)) == 0
		&& status() == 0);
	verdict("removing", (set_name("XenolithCall"), set(name, 0, data)) == 0 && status() == 0
		&& get(name, 8, data) == 0 && status() == (EFI_ERROR | 14));
}

int main(int count, char **words)
{
	device = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		perror("privcmd");
		return 1;
	}
	if (count > 1 && !strcmp(words[1], "time")) {
		memset(&op, 0, sizeof op);
		int failed = call(XEN_EFI_get_time, 0);
		printf("errno %d, status %llx\n", failed, (unsigned long long)status());
		return 0;
	}
	clock_calls();
	variable_calls();
	bad_calls();
	return failures != 0;
}
