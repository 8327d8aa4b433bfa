"""Files that park the calling task: regular files in threads, pipes and ttys by epoll."""
