"""What each client of the load does, for locust: send an image, wait, take the segmentation, remove the job."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from locust import HttpUser, task

IMAGES = sorted(Path(os.environ["UNETPP_IMAGES"]).iterdir())
TOKEN = os.environ["UNETPP_TOKEN"]


class Client(HttpUser):
    """A client that asks again as soon as it has its answer."""

    def on_start(self) -> None:
        """Send the token with everything."""
        self.client.headers["Authorization"] = f"Bearer {TOKEN}"

    @task
    def segment(self) -> None:
        """Segment one image."""
        path, started = random.choice(IMAGES), time.perf_counter()
        files, form = {"files": (path.name, path.read_bytes())}, {"uncertainty": "false"}
        answer = self.client.post("/v1/predict", files=files, data=form, name="1 predict")
        if answer.status_code != 202:
            return
        place = answer.headers["Location"]
        state = "queued"
        while state in ("queued", "running"):
            answer = self.client.get(place, params={"wait_s": 20}, name="2 wait, 20 s at most")
            if answer.status_code != 200:
                return
            state = answer.json()["state"]
        error = None if state == "done" else RuntimeError(state)
        self.client.get(f"{place}/result", name="3 take the segmentation")
        taken = 1e3 * (time.perf_counter() - started)
        self.environment.events.request.fire(
            request_type="", name="image to segmentation", response_time=taken, response_length=0, exception=error
        )
        self.client.delete(place, name="4 remove the job")
