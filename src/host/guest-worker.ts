// The kernel's thread of a virtual machine. While it stands still between two hosts its memory is nobody's: calls wait.

import { Gate, gated } from "./gate.js";
import { GuestService } from "./guest-service.js";
import { serveStarter } from "./thread.js";

/** What needs no memory of the machine, or has to be possible while it stands still. */
const FREE = new Set<keyof GuestService>(["boot", "hold", "view", "deliveries", "problems", "connectThread", "stop"]);

serveStarter(gated(new GuestService(), new Gate(), { closing: "suspend", opening: "resume", free: FREE }));
