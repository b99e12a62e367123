import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "build/", "node_modules/", "assembly/size-class-table.ts"] },
  ...tseslint.configs.recommended,
  {
    languageOptions: { parserOptions: { allowInvalidAST: true } },
    rules: {
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", caughtErrors: "none" }],
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
  {
    // AssemblyScript: decorators on functions need ts-ignore, and its types are not TypeScript's.
    files: ["assembly/**/*.ts", "test/assembly/**/*.ts", "test/interleave/**/*.ts", "bench/**/*.ts"],
    rules: { "@typescript-eslint/ban-ts-comment": "off", "@typescript-eslint/no-namespace": "off", "prefer-const": "off" },
  },
);
