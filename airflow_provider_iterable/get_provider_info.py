"""What Airflow reads at every start; knows names and the connection form, imports nothing."""


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-iterable",
        "name": "Iterable",
        "description": "Reverse ETL from any SQL connection to `Iterable <https://iterable.com/>`__.",
        "integrations": [
            {
                "integration-name": "Iterable",
                "external-doc-url": "https://api.iterable.com/api/docs",
                "how-to-guide": [
                    "/docs/users.md",
                    "/docs/change_email.md",
                    "/docs/events.md",
                    "/docs/lists.md",
                    "/docs/catalogs.md",
                    "/docs/privacy.md",
                    "/docs/subscriptions.md",
                    "/docs/partitions.md",
                    "/docs/hook.md",
                    "/docs/retries.md",
                ],
                "logo": "/docs/integration-logos/airflow-provider-iterable.svg",
                "tags": ["service"],
            }
        ],
        # Without a handler Airflow leaves URIs as they are; with the scheme's name it knows whose they are.
        "asset-uris": [{"schemes": ["iterable"], "handler": None}],
        "hooks": [{"integration-name": "Iterable", "python-modules": ["airflow_provider_iterable.hooks.iterable"]}],
        "operators": [
            {
                "integration-name": "Iterable",
                "python-modules": ["airflow_provider_iterable.operators"],
            }
        ],
        "extra-links": [
            "airflow_provider_iterable.operators.links.IterableLink",
            "airflow_provider_iterable.operators.links.SyncRunLink",
        ],
        **{
            key: [
                {
                    "schemes": ["iterable"],
                    "handler": "airflow_provider_iterable.assets.sanitize_uri",
                    "factory": "airflow_provider_iterable.assets.create_asset",
                    "to_openlineage_converter": "airflow_provider_iterable.assets.convert_asset_to_openlineage",
                }
            ]
            for key in ("asset-uris", "dataset-uris")  # the latter for Airflow 2
        },
        "connection-types": [
            {
                "connection-type": "iterable",
                "hook-name": "Iterable",
                "hook-class-name": "airflow_provider_iterable.hooks.iterable.IterableHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login"],
                    "relabeling": {"password": "API key", "host": "API base URL"},
                    "placeholders": {
                        "host": "empty: the data centre's own address",
                        "port": "empty; Airflow 3.3.1 and 3.3.2: 0, for the Test button",
                    },
                },
                "conn-fields": {
                    "data_center": {
                        "label": "Data center",
                        "description": "Where the Iterable project lives; an API key works in one of them only.",
                        "schema": {"type": ["string", "null"], "enum": ["us", "eu"], "default": "us"},
                    },
                    "project_type": {
                        "label": "Project type",
                        "description": "How the project tells users apart. Empty: syncs behave safely for any type. "
                        "Projects in the EU are never email-based.",
                        "schema": {"type": ["string", "null"], "enum": ["email", "user_id", "hybrid"]},
                    },
                    "rate_share": {
                        "label": "Rate share",
                        "description": "The share of Iterable's documented rates that one task may use, above 0 and "
                        "at most 1. Empty: all of it.",
                        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                    },
                    "rates": {
                        "label": "Rates",
                        "description": "Requests per second by endpoint, as JSON, where Iterable grants others than it "
                        'documents: {"POST /api/commerce/trackPurchase": 100}.',
                        "schema": {"type": ["string", "object", "null"]},
                    },
                    "max_in_flight": {
                        "label": "Requests in flight",
                        "description": "How many requests of a task may be under way at once, from 1 to 1000. Empty: "
                        "64. No more are than the rates need.",
                        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
                    },
                    "shared_pace": {
                        "label": "Shared pace",
                        "description": "Whether tasks of one machine that use this API key keep the rates together, "
                        "through small files in the folder for temporary files.",
                        "schema": {"type": ["boolean", "null"], "default": True},
                    },
                    "update_only": {
                        "label": "Update-only switch",
                        "description": "Iterable has switched on updateOnly for the project: bulk updates that never "
                        "create users.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "project": {
                        "label": "Project",
                        "description": "Any name for the project. A sync's state belongs to one project; with a name, "
                        "it knows the project by that, and otherwise by API key and message channels.",
                        "schema": {"type": ["string", "null"], "maxLength": 100},
                    },
                    "links": {
                        "label": "Links",
                        "description": "Addresses of pages in Iterable's own web app, as JSON, which tasks link to: "
                        '{"project": "https://...", "list": "https://.../{list_id}", '
                        '"catalog": "https://.../{catalog}"}.',
                        "schema": {"type": ["string", "object", "null"]},
                    },
                },
            }
        ],
    }
