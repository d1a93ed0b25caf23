/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check_rdma.c - looks at RDMA devices, their ports, GIDs and MTU, by sysfs alone (no verbs library is needed).
 * Neighbours: check.c. A host without a device is only warned: tcp:// works everywhere.
 */
#include "migration/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A RoCE packet with 4096 bytes of payload and all its headers; the next smaller RoCE MTU is 2048. */
enum { ROCE_FULL_MTU = 4200 };

struct port {
	const char *device;
	const char *number;
	char state[32];		/* "ACTIVE" */
	char layer[32];		/* "InfiniBand", "Ethernet" */
	char rate[64];		/* "100 Gb/sec (4X EDR)" */
	char ndev[64];		/* of the first GID; "" for InfiniBand */
	unsigned gids;
	bool has_roce_v2;
	unsigned long ndev_mtu;
};

/* The kernel says "4: ACTIVE". */
static void port_read_state(const struct check *check, struct port *port)
{
	char line[64];
	if (!check_read_line(check, line, sizeof(line), "/sys/class/infiniband/%s/ports/%s/state", port->device, port->number))
		return;
	const char *name = strchr(line, ':');
	check_format(port->state, sizeof(port->state), "%s", name ? name + 1 + strspn(name + 1, " ") : line);
}

static bool gid_is_set(const char *gid)
{
	return gid[strspn(gid, "0:")] != '\0';
}

static void port_read_gid(const struct check *check, struct port *port, const char *index)
{
	char gid[64], type[32];
	if (!check_read_line(check, gid, sizeof(gid), "/sys/class/infiniband/%s/ports/%s/gids/%s", port->device,
			     port->number, index) || !gid_is_set(gid))
		return;
	port->gids++;

	if (check_read_line(check, type, sizeof(type), "/sys/class/infiniband/%s/ports/%s/gid_attrs/types/%s",
			    port->device, port->number, index))
		port->has_roce_v2 |= !strcmp(type, "RoCE v2");
	if (!port->ndev[0])
		check_read_line(check, port->ndev, sizeof(port->ndev), "/sys/class/infiniband/%s/ports/%s/gid_attrs/ndevs/%s",
				port->device, port->number, index);
}

static void each_entry(const struct check *check, const char *path, void (*visit)(void *arg, const char *name), void *arg)
{
	char full[CHECK_PATH_BYTES];
	check_path(check, full, "%s", path);
	DIR *dir = opendir(full);
	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			visit(arg, entry->d_name);
	closedir(dir);
}

struct visit {
	struct check *check;
	struct port *port;	/* whose GIDs are visited */
	const char *device;	/* whose ports are visited */
	unsigned devices;
	unsigned active;
};

static void visit_gid(void *arg, const char *name)
{
	struct visit *visit = arg;
	port_read_gid(visit->check, visit->port, name);
}

static void port_read(struct check *check, struct port *port)
{
	char path[CHECK_PATH_BYTES], mtu[16];
	struct visit visit = { .check = check, .port = port };

	port_read_state(check, port);
	check_read_line(check, port->layer, sizeof(port->layer), "/sys/class/infiniband/%s/ports/%s/link_layer", port->device,
			port->number);
	check_read_line(check, port->rate, sizeof(port->rate), "/sys/class/infiniband/%s/ports/%s/rate", port->device,
			port->number);
	check_format(path, sizeof(path), "/sys/class/infiniband/%s/ports/%s/gids", port->device, port->number);
	each_entry(check, path, visit_gid, &visit);
	if (port->ndev[0] && check_read_line(check, mtu, sizeof(mtu), "/sys/class/net/%s/mtu", port->ndev))
		port->ndev_mtu = strtoul(mtu, NULL, 10);
}

static void port_tell_state(struct check *check, const struct port *port)
{
	char cure[CHECK_TEXT_BYTES];
	bool is_active = !strcmp(port->state, "ACTIVE");
	if (is_active)
		cure[0] = '\0';
	else if (!strcmp(port->layer, "Ethernet"))
		check_format(cure, sizeof(cure), "ip link set %s up   # and look at cable and switch port",
			 port->ndev[0] ? port->ndev : "NETDEV");
	else
		check_format(cure, sizeof(cure), "look at cable and switch port; INIT means no subnet manager: start opensm");
	check_tell(check, is_active ? RDMAMIG_CHECK_PASS : RDMAMIG_CHECK_WARN, "rdma-port", cure, "%s port %s: %s, %s, %s",
		   port->device, port->number, port->state[0] ? port->state : "state unknown", port->layer, port->rate);
}

static void port_tell_gids(struct check *check, const struct port *port)
{
	bool is_roce = !strcmp(port->layer, "Ethernet");
	bool is_fine = port->gids && (!is_roce || port->has_roce_v2);
	char cure[CHECK_TEXT_BYTES] = "";
	if (!is_fine)
		check_format(cure, sizeof(cure), "ip addr add ADDRESS/PREFIX dev %s   # RDMA-CM needs an address with a RoCE v2 GID",
			 port->ndev[0] ? port->ndev : "NETDEV");
	check_tell(check, is_fine ? RDMAMIG_CHECK_PASS : RDMAMIG_CHECK_WARN, "rdma-gid", cure, "%s port %s: %u GIDs%s",
		   port->device, port->number, port->gids,
		   !is_roce ? "" : port->has_roce_v2 ? ", RoCE v2" : ", none of RoCE v2");
}

static void port_tell_mtu(struct check *check, const struct port *port)
{
	if (!port->ndev_mtu)
		return;
	bool is_full = port->ndev_mtu >= ROCE_FULL_MTU;
	char cure[CHECK_TEXT_BYTES] = "";
	if (!is_full)
		check_format(cure, sizeof(cure), "ip link set %s mtu 9000   # on both hosts and every switch between", port->ndev);
	check_tell(check, is_full ? RDMAMIG_CHECK_PASS : RDMAMIG_CHECK_WARN, "rdma-mtu", cure,
		   "%s port %s: %s has MTU %lu%s", port->device, port->number, port->ndev, port->ndev_mtu,
		   is_full ? "" : ", too small for RDMA packets of 4096 bytes");
}

static void visit_port(void *arg, const char *name)
{
	struct visit *visit = arg;
	struct port port = { .device = visit->device, .number = name };
	port_read(visit->check, &port);
	port_tell_state(visit->check, &port);
	if (strcmp(port.state, "ACTIVE"))
		return;
	visit->active++;
	port_tell_gids(visit->check, &port);
	port_tell_mtu(visit->check, &port);
}

static void visit_device(void *arg, const char *name)
{
	struct visit *visit = arg;
	char path[CHECK_PATH_BYTES];
	visit->devices++;
	visit->device = name;
	check_format(path, sizeof(path), "/sys/class/infiniband/%s/ports", name);
	each_entry(visit->check, path, visit_port, visit);
}

void check_rdma_devices(struct check *check)
{
	struct visit visit = { .check = check };
	each_entry(check, "/sys/class/infiniband", visit_device, &visit);

	if (!visit.devices)
		check_tell(check, RDMAMIG_CHECK_WARN, "rdma-device",
			   "load the adapter's driver, or `rdma link add rxe0 type rxe netdev NETDEV` for software RoCE",
			   "no RDMA device: only tcp:// works here");
	else if (!visit.active)
		check_tell(check, RDMAMIG_CHECK_WARN, "rdma-device", "bring a port up, as said above",
			   "%u RDMA devices without an active port: only tcp:// works here", visit.devices);
	else
		check_tell(check, RDMAMIG_CHECK_PASS, "rdma-device", "", "%u RDMA devices, %u active ports", visit.devices,
			   visit.active);
}

/* Connections are made by the kernel's RDMA-CM, which user space reaches by this device node. */
void check_rdma_cm(struct check *check)
{
	char path[CHECK_PATH_BYTES];
	check_path(check, path, "/dev/infiniband/rdma_cm");
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		check_tell(check, RDMAMIG_CHECK_PASS, "rdma-cm", "", "/dev/infiniband/rdma_cm opens");
		return;
	}
	int saved = errno;
	check_tell(check, RDMAMIG_CHECK_WARN, "rdma-cm",
		   saved == EACCES || saved == EPERM ? "chmod 0666 /dev/infiniband/rdma_cm   # or run as root"
						     : "modprobe rdma_ucm",
		   "/dev/infiniband/rdma_cm: %s; only tcp:// works here", strerror(saved));
}
