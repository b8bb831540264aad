/*
 * servicebus_node.h
 *	  The trees that servicebus.c makes and servicebus_eval.c evaluates.
 */
#ifndef EVSTORE_SERVICEBUS_NODE_H
#define EVSTORE_SERVICEBUS_NODE_H

#include "filter/parse.h"

typedef enum EvsServicebusKind
{
	BUS_LITERAL,				/* literal; jbvNull is NULL */
	BUS_PROPERTY,				/* path, or with BUS_ANYWHERE a name of
								 * metadata or data */
	BUS_EXISTS,					/* a property */
	BUS_IS_NULL,				/* a property; negated */
	BUS_NOT,
	BUS_AND,
	BUS_OR,
	BUS_COMPARISON,				/* operation: EvsComparison */
	BUS_ARITHMETIC,				/* operation: a character */
	BUS_SIGN,					/* operation: + or - */
	BUS_IN,						/* the first argument in the others; negated */
	BUS_LIKE					/* value, pattern, perhaps escape; negated */
} EvsServicebusKind;

/* Of a property: where it is. */
enum
{
	BUS_PATH,
	BUS_ANYWHERE
};

#endif							/* EVSTORE_SERVICEBUS_NODE_H */
