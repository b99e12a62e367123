// The optimizer's second turn over a module that the compiler left the names of functions in.

/**
 * @param binaryen an instance of it that nobody has set otherwise
 * @param bytes the module
 * @param named whether the names stay; a release has none
 * @returns the module's bytes
 */
export function shrink(binaryen, bytes, { named = false } = {}) {
  const module = binaryen.readBinary(bytes);
  const { MutableGlobals, SignExt, Atomics, BulkMemory, BulkMemoryOpt, NontrappingFPToInt, SIMD128 } = binaryen.Features;
  module.setFeatures(MutableGlobals | SignExt | Atomics | BulkMemory | BulkMemoryOpt | NontrappingFPToInt | SIMD128);
  // Waits stay out of line: see parkNoInline in lock.ts. Locks are taken and released by calls: each is as long as a call when inlined, and there are many.
  for (const kept of ["*NoInline", "assembly/lock/*"]) {
    binaryen.setPassArgument("no-inline", kept);
    module.runPasses(["no-inline"]);
  }
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(1);
  binaryen.setAlwaysInlineMaxSize(4);
  binaryen.setGenerateStackIR(true);
  binaryen.setOptimizeStackIR(true);
  binaryen.setDebugInfo(named);
  for (let i = 0; i < 3; ++i) module.optimize();
  module.runPasses(named ? [] : ["strip-debug", "strip-producers", "strip-target-features"]);
  const shrunk = module.emitBinary();
  module.dispose();
  return shrunk;
}
