"""Airflow 3: a DAG that has the daemon run a sync once the models are built, and waits for it.

The task fails when the run fails (the exit code), can be cancelled (the run is), and pushes the address of the run's page as its
XCom: it is the last line that the command prints. Needs `groupcast` on the worker, and these variables in its environment:
GROUPCAST_URL (https://groupcast.example.com) and GROUPCAST_TOKEN.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("groupcast", schedule="0 3 * * *", start_date=datetime(2026, 1, 1), catchup=False) as dag:
    BashOperator(
        task_id="accounts",
        bash_command="exec groupcast run --select tag:nightly",
        append_env=True,
        retries=2,
        retry_delay=timedelta(minutes=10),
    )
