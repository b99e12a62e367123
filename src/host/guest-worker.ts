// The kernel's thread of a virtual machine.

import { GuestService } from "./guest-service.js";
import { serveStarter } from "./thread.js";

serveStarter(new GuestService());
