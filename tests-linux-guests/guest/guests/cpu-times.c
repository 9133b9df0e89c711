/* Prints how long all CPUs together idled and each domain ran, in nanoseconds, and the time before and after these were
 * asked for. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>

struct call {
	uint64_t number;
	uint64_t arguments[5];
};

/* What the hypervisor writes to must be there. */
static xen_domctl_getdomaininfo_t domains[64];
static xen_sysctl_cpuinfo_t cpus[128];

static void tell_time(const char *which)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	printf("%s %" PRIu64 "\n", which, (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec);
}

static int ask(int device, struct xen_sysctl *what)
{
	struct call call = { __HYPERVISOR_sysctl, { (uintptr_t)what } };

	what->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
	if (ioctl(device, _IOC(_IOC_NONE, 'P', 0, sizeof(call)), &call) >= 0)
		return 0;
	perror("sysctl");
	return 1;
}

int main(void)
{
	int device = open("/dev/xen/privcmd", O_RDWR);
	struct xen_sysctl idle, run;
	uint64_t idled = 0;

	memset(domains, 1, sizeof(domains));
	memset(cpus, 1, sizeof(cpus));
	mlockall(MCL_CURRENT);
	memset(&idle, 0, sizeof(idle));
	idle.cmd = XEN_SYSCTL_getcpuinfo;
	idle.u.getcpuinfo.max_cpus = 128;
	set_xen_guest_handle(idle.u.getcpuinfo.info, cpus);
	memset(&run, 0, sizeof(run));
	run.cmd = XEN_SYSCTL_getdomaininfolist;
	run.u.getdomaininfolist.max_domains = 64;
	set_xen_guest_handle(run.u.getdomaininfolist.buffer, domains);

	tell_time("before");
	if (ask(device, &idle) || ask(device, &run))
		return 1;
	tell_time("after");
	for (uint32_t cpu = 0; cpu < idle.u.getcpuinfo.nr_cpus; cpu++)
		idled += cpus[cpu].idletime;
	printf("idle %" PRIu64 "\n", idled);
	for (uint32_t n = 0; n < run.u.getdomaininfolist.num_domains; n++)
		printf("domain %u %" PRIu64 "\n", domains[n].domain, (uint64_t)domains[n].cpu_time);
	return 0;
}
