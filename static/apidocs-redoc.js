// Shows the OpenAPI document that the page names, and reports to nobody that it does.
import { init } from "../docs/assets/redoc.js";

const place = document.getElementById("api");
init(place.dataset.document, { disableTelemetry: true }, place);
