/* Prints how many pages of the machine are free: `xl info` rounds that to MiB. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/sysctl.h>

struct call {
	uint64_t number;
	uint64_t arguments[5];
};

int main(void)
{
	struct xen_sysctl ask;
	struct call call = { __HYPERVISOR_sysctl, { (uintptr_t)&ask } };
	int device = open("/dev/xen/privcmd", O_RDWR);

	memset(&ask, 0, sizeof(ask));
	ask.cmd = XEN_SYSCTL_physinfo;
	ask.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
	if (device < 0 || ioctl(device, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call) < 0) {
		perror("sysctl physinfo");
		return 1;
	}
	printf("%" PRIu64 "\n", (uint64_t)ask.u.physinfo.free_pages);
	return 0;
}
