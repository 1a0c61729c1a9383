"""All feeds by name: who makes them, where their format is described, and whose fault is to be found."""

from collections.abc import Callable
from dataclasses import dataclass

from streamae.history.recordings import Message
from tests.feeds import field, home, plant
from tests.feeds.signals import World

__all__ = ["FEEDS", "Feed"]


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed; `ill` is a part of the name of what has the fault, `excerpt_s` how long the golden excerpt is."""

    name: str
    write: Callable[[World], None]
    link: str
    ill: str
    excerpt_s: float = 1200.0

    def messages(self, seconds: float, *, seed: int = 0, fault: tuple[float, float] | None = None) -> list[Message]:
        """What is published in so many seconds, in order of time."""
        world = World(seconds, seed, fault)
        self.write(world)
        return world.messages()


_ALL = (
    Feed("zigbee2mqtt", home.zigbee2mqtt, "www.zigbee2mqtt.io/guide/usage", "cellar", 3600.0),
    Feed("tasmota", home.tasmota, "tasmota.github.io/docs/MQTT", "tasmota_shop"),
    Feed("shelly", home.shelly, "shelly-api-docs.shelly.cloud", "shellyplusplugs-c2"),
    Feed("homeassistant", home.homeassistant, "www.home-assistant.io/integrations/mqtt_statestream", "bath", 7200.0),
    Feed("rtl_433", field.rtl_433, "triq.org/rtl_433/DATA_FORMAT.html", "8121"),
    Feed("openmqttgateway", field.openmqttgateway, "docs.openmqttgateway.com/use/ble.html", "A4C13811A000"),
    Feed("chirpstack", field.chirpstack, "www.chirpstack.io/docs", "0102030405060702", 7200.0),
    Feed("kepware", plant.kepware, "www.ptc.com/en/products/kepware (IoT Gateway manual)", "Pump2"),
    Feed("sparkplug", plant.sparkplug, "sparkplug.eclipse.org/specification", "motor1"),
    Feed("telegraf", plant.telegraf, "docs.influxdata.com/telegraf/v1/data_formats/output/json", "cedar"),
    Feed("victron", plant.victron, "github.com/victronenergy/dbus-flashmq", "battery"),
    Feed("plain_numbers", plant.plain_numbers, "docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html", "pump04"),
)  # fmt: skip
FEEDS = {one.name: one for one in _ALL}
