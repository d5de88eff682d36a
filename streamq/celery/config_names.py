"""Names of Celery's settings: all of them, with Celery's defaults, and their older names."""

import math
from collections.abc import Mapping
from datetime import timedelta

#: Settings that have no value unless they are set.
WITHOUT_DEFAULT = """
    arangodb_backend_settings
    beat_cron_starting_deadline beat_executable beat_gid beat_logfile beat_pidfile
    beat_remote_control_max_tick_age beat_uid beat_umask
    broker_connection_retry_on_startup broker_failover_strategy broker_host broker_login_method
    broker_password broker_pool_acquire_timeout broker_port broker_read_url broker_transport
    broker_url broker_user broker_vhost broker_write_url
    cache_backend
    cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path cassandra_entry_ttl
    cassandra_keyspace cassandra_port cassandra_read_consistency cassandra_secure_bundle_path
    cassandra_servers cassandra_table cassandra_write_consistency
    couchbase_backend_settings
    database_engine_callback database_table_names database_table_schemas database_url
    elasticsearch_max_retries elasticsearch_retry_on_timeout elasticsearch_timeout
    events_executable events_gid events_logfile events_pidfile events_uid events_umask
    gcs_bucket gcs_project
    mongodb_backend_settings
    redis_backend_credential_provider redis_backend_health_check_interval redis_backend_use_ssl
    redis_client_name redis_db redis_host redis_max_connections redis_password redis_port
    redis_socket_connect_timeout redis_username
    result_accept_content result_backend result_chord_expires result_compression
    result_failure_expires result_persistent
    s3_access_key_id s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key
    security_cert_store security_certificate security_key security_key_password
    task_acks_on_failure task_acks_on_timeout task_annotations task_args_repr_function
    task_compression task_create_missing_queue_exchange_type task_default_exchange
    task_default_priority task_default_rate_limit task_default_routing_key
    task_queue_max_priority task_queues task_reject_on_worker_lost task_routes
    task_soft_time_limit task_time_limit
    timezone
    worker_agent worker_concurrency worker_eta_task_limit worker_executable worker_gid
    worker_log_color worker_log_datefmt worker_logfile worker_max_memory_per_child
    worker_max_tasks_per_child worker_pidfile worker_state_db worker_task_log_datefmt
    worker_timer worker_uid worker_umask
"""

LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] "

#: Celery's settings by name, with its defaults.
DEFAULTS: Mapping[str, object] = {
    **dict.fromkeys(WITHOUT_DEFAULT.split()),
    "accept_content": ("json",),
    "azureblockblob_base_path": "",
    "azureblockblob_connection_timeout": 20,
    "azureblockblob_container_name": "celery",
    "azureblockblob_read_timeout": 120,
    "azureblockblob_retry_increment_base": 2,
    "azureblockblob_retry_initial_backoff_sec": 2,
    "azureblockblob_retry_max_attempts": 3,
    "beat_enable_remote_control": False,
    "beat_max_loop_interval": 0,
    "beat_schedule": {},
    "beat_schedule_filename": "celerybeat-schedule",
    "beat_scheduler": "celery.beat:PersistentScheduler",
    "beat_sync_every": 0,
    "broker_channel_error_retry": False,
    "broker_connection_max_retries": 100,
    "broker_connection_retry": True,
    "broker_connection_timeout": 4,
    "broker_heartbeat": 120,
    "broker_heartbeat_checkrate": 3.0,
    "broker_native_delayed_delivery_queue_type": "quorum",
    "broker_pool_limit": 10,
    "broker_transport_options": {},
    "broker_use_ssl": False,
    "cache_backend_options": {},
    "cassandra_options": {},
    "control_exchange": "celery",
    "control_queue_durable": False,
    "control_queue_exclusive": True,
    "control_queue_expires": 10.0,
    "control_queue_ttl": 300.0,
    "cosmosdbsql_collection_name": "celerycol",
    "cosmosdbsql_consistency_level": "Session",
    "cosmosdbsql_database_name": "celerydb",
    "cosmosdbsql_max_retry_attempts": 9,
    "cosmosdbsql_max_retry_wait_time": 30,
    "database_create_tables_at_setup": True,
    "database_engine_options": {"pool_pre_ping": True, "pool_recycle": 3600},
    "database_short_lived_sessions": False,
    "elasticsearch_save_meta_as_text": True,
    "enable_utc": True,
    "event_exchange": "celeryev",
    "event_queue_durable": False,
    "event_queue_exclusive": True,
    "event_queue_expires": 60.0,
    "event_queue_prefix": "celeryev",
    "event_queue_ttl": 5.0,
    "event_serializer": "json",
    "gcs_base_path": "",
    "gcs_ttl": 0,
    "imports": (),
    "include": (),
    "override_backends": {},
    "redis_retry_on_timeout": False,
    "redis_socket_keepalive": False,
    "redis_socket_timeout": 120.0,
    "result_backend_always_retry": False,
    "result_backend_base_sleep_between_retries_ms": 10,
    "result_backend_max_retries": math.inf,
    "result_backend_max_sleep_between_retries_ms": 10_000,
    "result_backend_thread_safe": False,
    "result_backend_transport_options": {},
    "result_cache_max": -1,
    "result_chord_join_timeout": 3.0,
    "result_chord_retry_interval": 1.0,
    "result_exchange": "celeryresults",
    "result_exchange_type": "direct",
    "result_expires": timedelta(days=1),
    "result_extended": False,
    "result_serializer": "json",
    "security_digest": "sha256",
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": True,
    "task_allow_error_cb_on_chord_header": False,
    "task_always_eager": False,
    "task_create_missing_queue_type": "classic",
    "task_create_missing_queues": True,
    "task_default_delivery_mode": 2,
    "task_default_exchange_type": "direct",
    "task_default_queue": "celery",
    "task_default_queue_type": "classic",
    "task_eager_propagates": False,
    "task_ignore_result": False,
    "task_inherit_parent_priority": False,
    "task_protocol": 2,
    "task_publish_retry": True,
    "task_publish_retry_policy": {
        "max_retries": 3,
        "interval_start": 0,
        "interval_max": 1,
        "interval_step": 0.2,
    },
    "task_remote_tracebacks": False,
    "task_repr_maxlevels": 3,
    "task_retry_on_worker_lost": False,
    "task_send_sent_event": False,
    "task_serializer": "json",
    "task_store_eager_result": False,
    "task_store_errors_even_if_ignored": False,
    "task_track_started": False,
    "worker_autoscaler": "celery.worker.autoscale:Autoscaler",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_consumer": "celery.worker.consumer:Consumer",
    "worker_deduplicate_successful_tasks": False,
    "worker_detect_quorum_queues": True,
    "worker_direct": False,
    "worker_disable_prefetch": False,
    "worker_disable_rate_limits": False,
    "worker_enable_prefetch_count_reduction": True,
    "worker_enable_remote_control": True,
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_hijack_root_logger": True,
    "worker_log_format": f"{LOG_FORMAT}%(message)s",
    "worker_lost_wait": 10.0,
    "worker_pool": "prefork",
    "worker_pool_putlocks": True,
    "worker_pool_restarts": False,
    "worker_pool_start_method": "fork",
    "worker_prefetch_multiplier": 4,
    "worker_proc_alive_timeout": 4.0,
    "worker_redirect_stdouts": True,
    "worker_redirect_stdouts_level": "WARNING",
    "worker_send_task_events": False,
    "worker_soft_shutdown_timeout": 0.0,
    "worker_task_log_format": f"{LOG_FORMAT}%(task_name)s[%(task_id)s]: %(message)s",
    "worker_timer_precision": 1.0,
}

#: Older names that no rule makes.
RENAMED: Mapping[str, str] = {
    "BROKER_BACKEND": "broker_transport",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_DISABLE_RATE_LIMITS": "worker_disable_rate_limits",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_ENABLE_REMOTE_CONTROL": "worker_enable_remote_control",
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_REDIRECT_STDOUTS": "worker_redirect_stdouts",
    "CELERY_REDIRECT_STDOUTS_LEVEL": "worker_redirect_stdouts_level",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    # Not Celery's own: it takes the zone of Django if it has none.
    "TIME_ZONE": "timezone",
}

#: Beginnings of names in capitals, and those of today's names.
CAPITALS = (
    ("CELERY_", ""),
    ("CELERY_", "task_"),
    ("CELERYD_", "worker_"),
    ("CELERYBEAT_", "beat_"),
    ("BROKER_", "broker_"),
)


def todays_name(name: str) -> str | None:
    """The name that Celery 5 has for its setting ``name``; None if it is no setting of Celery.

    Older names in capitals are understood, and today's with ``CELERY_`` before them.
    """
    if name in DEFAULTS:
        return name
    if name in RENAMED:
        return RENAMED[name]
    for capitals, prefix in CAPITALS:
        if name.startswith(capitals) and name.isupper():
            found = prefix + name.removeprefix(capitals).lower()
            if found in DEFAULTS:
                return found
    return None


def rank(name: str) -> int:
    """How far a name goes before other names of its setting: the newest counts."""
    if not name.isupper():
        return 3
    if name == "TIME_ZONE":
        return 0
    return 2 if name.removeprefix("CELERY_").lower() in DEFAULTS and name not in RENAMED else 1


def names_of(setting: str) -> tuple[str, ...]:
    """All names of a setting of Celery in capitals, the newest first."""
    made = [
        capitals + setting.removeprefix(prefix).upper()
        for capitals, prefix in CAPITALS
        if setting.startswith(prefix)
    ]
    older = [old for old, today in RENAMED.items() if today == setting]
    return (*made, *older)
