/* hold-grant DOMAIN REFERENCE: maps a page that another domain grants, and holds it. For each line of its input it
 * prints the page's first word; at the end of its input it lets go. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <xen/sys/gntdev.h>

int main(int count, char **words)
{
	struct ioctl_gntdev_map_grant_ref ask = { .count = 1 };
	int device = open("/dev/xen/gntdev", O_RDWR);
	volatile uint64_t *page;

	if (count != 3)
		return 2;
	ask.refs[0].domid = strtoul(words[1], NULL, 0);
	ask.refs[0].ref = strtoul(words[2], NULL, 0);
	if (device < 0 || ioctl(device, IOCTL_GNTDEV_MAP_GRANT_REF, &ask) < 0) {
		perror("gntdev");
		return 1;
	}
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, ask.index);
	if (page == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (int c; (c = getchar()) != EOF;) {
		if (c == '\n') {
			printf("%" PRIx64 "\n", page[0]);
			fflush(stdout);
		}
	}
	return 0;
}
