/*
 * debug_point.h
 *	  Named places where a test can make a session wait.
 *
 * In a build with EVS_DEBUG_POINTS, a session that reaches a point waits as
 * long as another one holds the advisory lock
 * pg_advisory_lock(hashtextextended('evstore.' || name, 0)).  In other builds
 * a point is nothing.
 */
#ifndef EVSTORE_DEBUG_POINT_H
#define EVSTORE_DEBUG_POINT_H

#ifdef EVS_DEBUG_POINTS
extern void evs_debug_point(const char *name);
#define EVS_DEBUG_POINT(name) evs_debug_point("evstore." name)
#else
#define EVS_DEBUG_POINT(name) ((void) 0)
#endif

#endif							/* EVSTORE_DEBUG_POINT_H */
