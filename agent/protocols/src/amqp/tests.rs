//! Tests of the AMQP parser.
