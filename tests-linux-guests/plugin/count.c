/* Counts, inside the emulator, what a hypervisor does: a plugin for QEMU's TCG, for any hypervisor alike.
 *
 * Counted are all instructions, those at addresses of the hypervisor (PML4 slots 256 to 271, which the PV ABI
 * reserves for it), and there the loads of CR3, of CR4 (two for a flush of the whole TLB, global entries
 * included), INVLPG, and SYSRET and IRET, by which guests are entered.
 *
 * The program `bench` marks begin and end of each measurement by a no-operation that only this plugin knows.
 * Lines written, at the first instruction of the hypervisor and of dom0's kernel, and at each mark:
 *   NAME instructions hypervisor's cr3 cr4 invlpg entries
 *
 * Debian ships no header for plugins: the few functions used are declared here (QEMU's documentation,
 * "QEMU TCG Plugins", plugin API version 1). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct block;
struct instruction;
enum { NO_REGISTERS = 0, ADD = 0 };

EXPORT int qemu_plugin_version = 1;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
size_t qemu_plugin_tb_n_insns(const struct block *);
struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
const void *qemu_plugin_insn_data(const struct instruction *);
size_t qemu_plugin_insn_size(const struct instruction *);
uint64_t qemu_plugin_insn_vaddr(const struct instruction *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct instruction *, int, void *, uint64_t);

/* Both hypervisors are loaded at 2 MiB; the firmware runs below 1 MiB and at the top of RAM. */
static const uint64_t LOADED_FROM = 0x100000, LOADED_TO = 0x1000000;
static const uint64_t HYPERVISOR_FROM = 0xffff800000000000, HYPERVISOR_TO = 0xffff880000000000;
/* Where Linux's own text is. */
static const uint64_t KERNEL_FROM = 0xffffffff80000000;

static struct {
	uint64_t instructions, hypervisor, cr3, cr4, invlpg, entries;
} counts;
static FILE *out;
static bool hypervisor_seen, kernel_seen;

static void report(const char *name)
{
	fprintf(out, "%s %llu %llu %llu %llu %llu %llu\n", name,
		(unsigned long long)counts.instructions, (unsigned long long)counts.hypervisor,
		(unsigned long long)counts.cr3, (unsigned long long)counts.cr4,
		(unsigned long long)counts.invlpg, (unsigned long long)counts.entries);
	fflush(out);
}

static void at_mark(unsigned cpu, void *name)
{
	(void)cpu;
	report(name);
}

static void at_first(unsigned cpu, void *seen)
{
	(void)cpu;
	if (*(bool *)seen)
		return;
	*(bool *)seen = true;
	report(seen == &kernel_seen ? "kernel" : "hypervisor");
}

static void count(struct instruction *i, uint64_t *counter)
{
	qemu_plugin_register_vcpu_insn_exec_inline(i, ADD, counter, 1);
}

/* The counter of what an instruction of the hypervisor does, or none. */
static uint64_t *counter_of(const uint8_t *code, size_t size)
{
	if (size && (code[0] & 0xf0) == 0x40) {
		code++;
		size--;
	}
	if (size == 1 && code[0] == 0xcf)
		return &counts.entries;
	if (size < 2 || code[0] != 0x0f)
		return NULL;
	if (code[1] == 0x07)
		return &counts.entries;
	if (size < 3)
		return NULL;
	unsigned field = code[2] >> 3 & 7;
	if (code[1] == 0x22 && field == 3)
		return &counts.cr3;
	if (code[1] == 0x22 && field == 4)
		return &counts.cr4;
	if (code[1] == 0x01 && field == 7 && code[2] < 0xc0)
		return &counts.invlpg;
	return NULL;
}

static void instrument(struct instruction *i)
{
	const uint8_t *code = qemu_plugin_insn_data(i);
	size_t size = qemu_plugin_insn_size(i);
	uint64_t address = qemu_plugin_insn_vaddr(i);
	static const uint8_t mark[] = { 0x58, 0x45, 0x4e };

	if (!hypervisor_seen && address >= LOADED_FROM && address < LOADED_TO)
		qemu_plugin_register_vcpu_insn_exec_cb(i, at_first, NO_REGISTERS, &hypervisor_seen);
	if (!kernel_seen && address >= KERNEL_FROM)
		qemu_plugin_register_vcpu_insn_exec_cb(i, at_first, NO_REGISTERS, &kernel_seen);
	if (size == 7 && code[0] == 0x0f && code[1] == 0x1f && code[2] == 0x80 &&
	    !memcmp(code + 4, mark, sizeof(mark)))
		qemu_plugin_register_vcpu_insn_exec_cb(i, at_mark, NO_REGISTERS,
						       code[3] ? "end" : "begin");
	count(i, &counts.instructions);
	if (address < HYPERVISOR_FROM || address >= HYPERVISOR_TO)
		return;
	count(i, &counts.hypervisor);
	uint64_t *counter = counter_of(code, size);
	if (counter)
		count(i, counter);
}

static void translated(plugin_id id, struct block *block)
{
	(void)id;
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++)
		instrument(qemu_plugin_tb_get_insn(block, i));
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **words)
{
	(void)info;
	for (int i = 0; i < count; i++)
		if (!strncmp(words[i], "out=", 4))
			out = fopen(words[i] + 4, "w");
	if (!out)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
