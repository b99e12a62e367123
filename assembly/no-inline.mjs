// asc transform: AssemblyScript has no @noinline. Functions whose name ends in NoInline stay out of line.
import { Transform } from "assemblyscript/transform";

export default class NoInline extends Transform {
  afterCompile(module) {
    this.binaryen.setPassArgument("no-inline", "*NoInline");
    module.runPasses(["no-inline"]);
  }
}
