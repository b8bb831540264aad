/*
 * guc.h
 *	  evstore's settings.  docs/reference/settings.md lists them.
 */
#ifndef EVSTORE_GUC_H
#define EVSTORE_GUC_H

extern char *evs_guc_actor;
extern bool evs_guc_capture_context;
extern char *evs_guc_causation_id;
extern char *evs_guc_correlation_id;
extern int	evs_guc_id_window;
extern int	evs_guc_inbox_retention;
extern int	evs_guc_max_batch;
extern int	evs_guc_max_event_size;
extern char *evs_guc_now_override;
extern int	evs_guc_partition_size;
extern char *evs_guc_traceparent;

extern void evs_guc_init(void);

#endif							/* EVSTORE_GUC_H */
