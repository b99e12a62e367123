// The hypervisor's thread.

import { HypervisorService } from "./hypervisor-service.js";
import { serveStarter } from "./thread.js";

serveStarter(new HypervisorService());
