package main

import (
	"crypto/tls"
	"fmt"
	"net"
)

// As its users write it: TCP_NODELAY is set by net, the backlog is net.core.somaxconn.
func serveTCP(port, size int) {
	listener, err := net.Listen("tcp", address(port))
	check(err)
	serve(listener, size)
}

func serveTLS(port, size int, certificate, key string) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	check(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	listener, err := tls.Listen("tcp", address(port), config)
	check(err)
	serve(listener, size)
}

func serve(listener net.Listener, size int) {
	for {
		conn, err := listener.Accept()
		check(err)
		go echo(conn, size)
	}
}

func echo(conn net.Conn, size int) {
	defer conn.Close()
	buffer := make([]byte, size)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func serveUDP(port, size int) {
	local, err := net.ResolveUDPAddr("udp", address(port))
	check(err)
	conn, err := net.ListenUDP("udp", local)
	check(err)
	buffer := make([]byte, size)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buffer)
		check(err)
		_, err = conn.WriteToUDPAddrPort(buffer[:n], peer)
		check(err)
	}
}

func address(port int) string {
	return fmt.Sprintf("127.0.0.1:%d", port)
}
