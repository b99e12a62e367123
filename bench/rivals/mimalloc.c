// What a dying thread does: its pages go to whoever asks next.

void mi_thread_done(void);

__attribute__((export_name("thread_done"))) void thread_done(void) {
  mi_thread_done();
}
