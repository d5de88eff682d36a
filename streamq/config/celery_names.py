"""Advice for settings of Celery that streamq does not have.

Celery's settings with the same meaning are aliases in ``settings.py``.
"""

#: Advice by name; a name that ends in "_" is for all names that begin with it.
ADVICE = {
    "broker": "write App('name', url='redis://…')",
    "backend": "results live in the same Redis as the messages; remove it",
    "result_backend": "results live in the same Redis as the messages; remove it",
    "result_backend_": "results live in the same Redis as the messages; remove it",
    "result_extended": "results always name their task, queue and worker; remove it",
    "result_accept_content": "accept_content holds for messages and for results",
    "broker_transport": "the transport is always Redis Streams; remove it",
    "broker_transport_options": "there is no visibility timeout: a worker that lives keeps its "
    "tasks however long they run, one that dies loses them after lease",
    "visibility_timeout": "there is none: a worker that lives keeps its tasks however long they "
    "run, one that dies loses them after lease",
    "broker_read_url": "producers and workers use one url",
    "broker_write_url": "producers and workers use one url",
    "broker_use_ssl": "write url = 'rediss://…'",
    "redis_backend_use_ssl": "write url = 'rediss://…'",
    "broker_connection_retry": "workers always reconnect; remove it",
    "broker_connection_retry_": "workers always reconnect; remove it",
    "broker_connection_": "connections look after themselves; remove it",
    "broker_pool_limit": "connections look after themselves; remove it",
    "broker_heartbeat": "leases replace heartbeats: see lease",
    "redis_": "connections look after themselves; user, password and database go into url",
    "task_queues": "declare queues with app.queues = [Queue(…)]; workers choose them with -Q",
    "task_default_exchange": "tasks go to the queue task_default_queue; others by task_routes",
    "task_default_exchange_": "tasks go to the queue task_default_queue; others by task_routes",
    "task_default_routing_key": "tasks go to the queue task_default_queue; others by task_routes",
    "task_default_delivery_mode": "Redis decides what survives a restart: see appendonly",
    "task_queue_max_priority": "give it to the queue: Queue(name, max_priority=9)",
    "task_annotations": "give the options to the task itself: @app.task(…)",
    "task_reject_on_worker_lost": "with acks_late a lost task runs again; see max_deliveries",
    "task_acks_on_failure_or_timeout": "a task that failed is acknowledged; its result says why",
    "task_publish_retry": "publishing is always repeated, up to publish_timeout",
    "task_publish_retry_policy": "publishing is always repeated, up to publish_timeout",
    "task_protocol": "there is one message format; remove it",
    "task_send_sent_event": "what happens is in Redis without events; remove it",
    "worker_send_task_events": "what happens is in Redis without events; remove it",
    "worker_prefetch_multiplier": "a worker holds only what it can start now; remove it",
    "worker_disable_prefetch": "a worker holds only what it can start now; remove it",
    "worker_max_memory_per_child": "Celery counts KiB; write max_memory_per_child = '300MB'",
    "worker_soft_shutdown_timeout": "see shutdown_timeout",
    "worker_lost_wait": "a lost process is noticed at once; remove it",
    "worker_proc_alive_timeout": "a lost process is noticed at once; remove it",
    "worker_log_format": "log_format is 'text' or 'json'",
    "worker_task_log_format": "log_format is 'text' or 'json'",
    "worker_hijack_root_logger": "a worker adds its handler, and leaves your loggers; remove it",
    "worker_redirect_stdouts": "what a task prints is not logged; remove it",
    "worker_redirect_stdouts_": "what a task prints is not logged; remove it",
    "worker_enable_remote_control": "there is no broadcast to turn off; remove it",
    "enable_utc": "times are always kept in UTC; timezone is for times that name no zone",
    "beat_": "every worker fires schedules, and nothing else does; remove it",
    "event_": "what happens is in Redis without events; remove it",
    "control_": "there is no broadcast; remove it",
}


def explain_foreign(name: str) -> str | None:
    """Return what to do instead of setting ``name``; None if Celery has no such setting."""
    if sentence := ADVICE.get(name):
        return sentence
    families = (family for family in ADVICE if family.endswith("_") and name.startswith(family))
    return ADVICE.get(max(families, key=len, default=""))
