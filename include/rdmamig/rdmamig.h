/* SPDX-License-Identifier: BSD-2-Clause */
/* rdmamig.h - everything librdmamig offers. Each header also stands alone. */
#ifndef RDMAMIG_H
#define RDMAMIG_H

#include <rdmamig/check.h>
#include <rdmamig/journal.h>
#include <rdmamig/log.h>
#include <rdmamig/session.h>
#include <rdmamig/stats.h>
#include <rdmamig/status.h>
#include <rdmamig/tracker.h>
#include <rdmamig/uri.h>

#endif
